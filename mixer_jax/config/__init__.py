"""The keys of a config, their checks, and the comparison of two configs."""
