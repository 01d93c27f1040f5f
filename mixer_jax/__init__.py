"""MLP-Mixer (arXiv 2105.01601) in JAX and Flax.

From a notebook or a script:

    import mixer_jax

    config = mixer_jax.load_config("digits", {"steps": 200, "schedule.warmup_steps": 20})
    result = mixer_jax.train(config, "runs/notebook")
    trained = mixer_jax.load_trained("runs/notebook")
    logits = trained.logits(images)  # images of any size, uint8 (height, width, 3) each
"""

import importlib

__version__ = "0.1.0"

# Name -> where it is; imported when it is asked for, so that `import mixer_jax` costs nothing.
_NAMES = {
    "load_config": ("mixer_jax.config.recipes", "load"),
    "create_model": ("mixer_jax.models.registry", "create_model"),
    "load_weights": ("mixer_jax.weights.load", "load_weights"),
    "load_trained": ("mixer_jax.weights.trained", "load_trained"),
    "train": ("mixer_jax.training.run", "train"),
}
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _NAMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
