"""The work directory of a run: its files, its checkpoints, its metrics and its lock."""
