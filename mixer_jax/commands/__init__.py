"""The commands of `python -m mixer_jax`: a module each, with its flags and `main()`; its docstring is its help.

A command of two words, such as `benchmark data`, is the module `benchmark_data`.
"""
