"""MLP-Mixer (arXiv 2105.01601) in JAX and Flax."""
