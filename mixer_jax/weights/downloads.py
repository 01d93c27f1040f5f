"""A cache of the weights that authors published, with checksums."""

import hashlib
import http.client
import os
import shutil
import urllib.request
from pathlib import Path

from tqdm import tqdm

from mixer_jax.config.checks import one_of
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.weights.contents import shown
from mixer_jax.workdir.layout import whole_file

_SILENCE = 60  # seconds without an answer after which a download is given up


def default_cache_dir() -> Path:
    """Returns mixer_jax/ in $XDG_CACHE_HOME, or where that is not set in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixer_jax"


def fetch(name: str, cache_dir: Path | None = None) -> Path:
    """Returns the file of published weights, downloaded if the cache does not have it.

    The authors published no checksums. So the SHA-256 of a file is recorded beside it, as <file>.sha256, when it is
    first used, and every later use checks it.

    Args:
      name: one of `registry.published()`.
      cache_dir: the cache; by default `default_cache_dir()`. The file is <cache_dir>/<name>, with the ending of its
        address.

    Raises:
      ConfigError: the name is unknown, the download fails, or the file is not what it was.
    """
    published = registry.published()
    found = published[one_of("source", name, published)]
    url = found.address
    path = (default_cache_dir() if cache_dir is None else cache_dir) / f"{name}{Path(url).suffix}"
    if not os.path.lexists(path):
        try:
            _download(url, path)
        except (OSError, http.client.HTTPException) as error:
            twin = f". The same weights are published as {found.twin!r}, too" if found.twin else ""
            raise ConfigError(
                f"{name}: {url} cannot be downloaded to {path} ({error}); fetch it elsewhere and put it there{twin}"
            ) from error
    if not path.is_file():
        raise ConfigError(f"{path} is no file; remove it to download {name} anew")
    try:
        _check(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the SHA-256 of {path} cannot be recorded or checked: {error}") from error
    return path


def _download(url: str, path: Path) -> None:
    """Writes what `url` gives to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=_SILENCE) as response, whole_file(path, "wb") as file:
        size = response.length  # None: the server does not say
        with tqdm.wrapattr(response, "read", total=size, desc=url, leave=False) as body:
            shutil.copyfileobj(body, file)
        if size not in (None, file.tell()):
            raise OSError(f"{file.tell():,} of {size:,} bytes were received")


def _check(path: Path) -> None:
    with path.open("rb") as file:
        found = f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n"  # as sha256sum writes it
    record = path.with_name(f"{path.name}.sha256")
    if not record.exists():
        record.write_text(found)
        return
    if not record.is_file():
        raise ConfigError(f"{record} is no file; remove it")
    recorded = record.read_text(encoding="utf-8")
    if recorded != found:
        raise ConfigError(
            f"{path} has SHA-256 {found.split()[0]}; at its first use it had {shown(recorded.partition(' ')[0])}, says "
            f"{record.name}. Remove both files to download it anew, or the second if the file was replaced on purpose"
        )
