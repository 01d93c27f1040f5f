"""What paths in flags and keys mean, and which of them are refused at once."""

import os
from pathlib import Path

import pytest

from mixer_jax.config.paths import local_path, path_or_url, utf8_path
from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.weights.trained import load_trained


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("gs://a/b", "--data_dir=gs://a/b is no local path"),
        (Path("gs://a/b"), "--data_dir=gs:/a/b is no local path"),
        ("", "--data_dir is empty"),
        (3, "--data_dir=3; expected a path"),
        ("~nosuchuser/a", "--data_dir=~nosuchuser/a: Could not determine home directory"),
        ("a" * 256, "is longer than a path, or a name in it"),
        ("a/" * 2048, "is longer than a path, or a name in it"),
        ("a\0b", "or holds other bytes"),
    ],
)
def test_what_is_no_path_is_refused_in_a_short_line(value, said):
    with pytest.raises(ConfigError) as caught:
        local_path("--data_dir", value)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_path_of_any_bytes_is_one_but_not_where_utf8_is_needed(tmp_path, monkeypatch):
    path = tmp_path / "caf\udce9"
    assert local_path("--source", path) == path
    assert path_or_url("config.data.data_dir", "gs://a/b") == "gs://a/b"
    said = r"caf\\udce9(/in)? is no path in UTF-8"
    with pytest.raises(ConfigError, match=rf"--workdir={tmp_path}/{said}"):
        utf8_path("--workdir", path)
    path.mkdir()
    monkeypatch.chdir(path)
    with pytest.raises(ConfigError, match=rf"--workdir={tmp_path}/{said}"):
        utf8_path("--workdir", "in")


def test_a_data_set_or_a_checkpoint_in_such_a_folder_is_not_called_damaged(tmp_path):
    folder = tmp_path / "caf\udce9"
    os.makedirs(folder / "checkpoints/2/state")
    with pytest.raises(ConfigError, match=r"checkpoint=.*caf\\udce9 is no path in UTF-8"):
        load_trained(folder)
    with pytest.raises(ConfigError, match=r"config\.data\.data_dir=.*caf\\udce9 is no path in UTF-8"):
        sources.open_source("tfds:s", split="train", data_dir=str(folder), num_classes=1, image_size=8)
