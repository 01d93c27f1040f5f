"""What happens in one step, as pure functions."""
