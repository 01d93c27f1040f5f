"""Models that have been trained, in and out of files."""
