"""Weight files of parameter trees, for tests."""

from flax.traverse_util import flatten_dict

from mixer_jax.weights.load import from_arrays, save_weights


def save_params(path, params):
    """Writes the parameter tree of a Mixer to a file of weights."""
    save_weights(path, from_arrays(flatten_dict(params, sep="/"), source="a tree"))
