"""The parts of the fuzz test, tests/fuzz.py: what runs a case, what damages a file, and the cases by kind."""
