"""Evaluations of a trained model as the paper and its followers define them, each by one name."""
