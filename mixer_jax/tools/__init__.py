"""The commands of `python -m mixer_jax`: a module each, with its flags and `main()`; its docstring is its help."""
