"""Training runs: one, or several."""
