"""Planning a training on TPUs that are not there: the real step, compiled ahead of time."""
