"""Evaluators: a training state in, metrics by name out."""
