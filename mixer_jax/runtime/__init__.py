"""The machine under the program: its hardware, its hosts, its mesh, what all processes agree on, and interruptions."""
