"""Finds the file of a model: by path, in an installed package, in the cache, or by a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from llmengine.embedded.cache import cached_path, has_size
from llmengine.embedded.catalogue import CATALOGUE, CatalogueModel, lookup
from llmengine.embedded.pulling import OnProgress, pull
from llmengine.types.errors import ConfigError

__all__ = ["CATALOGUE", "CatalogueModel", "OnProgress", "check_gguf", "find", "pull", "resolve"]

_GGUF_MAGIC = b"GGUF"


def resolve(model: str | Path, *, on_progress: OnProgress | None = None) -> Path:
    """The GGUF file of `model`: a name of the catalogue, or a path, which is used as it is.

    A name is looked for in an installed package, then in the user's cache, and else pulled.
    Raises ConfigError that says what to do.
    """
    name = str(model)
    if name in CATALOGUE:
        return find(name) or pull(name, on_progress)
    path = Path(model).expanduser()
    if isinstance(model, str) and not _looks_like_path(model) and not path.exists():
        lookup(name)
    check_gguf(path)
    return path


def find(name: str) -> Path | None:
    """The file of the catalogue's model `name` if it is on this machine; nothing is downloaded."""
    model = lookup(name)
    return _installed(model) or _cached(model)


def check_gguf(path: Path) -> None:
    """Raise ConfigError unless `path` is a file that begins as a GGUF file does."""
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
    """The file in an installed package, found without importing that package."""
    module, _, rest = model.member.partition("/")
    spec = importlib.util.find_spec(module)
    places = (spec.submodule_search_locations if spec else None) or []
    files = (Path(place) / rest for place in places)
    return next((file for file in files if has_size(file, model)), None)


def _cached(model: CatalogueModel) -> Path | None:
    path = cached_path(model)
    return path if has_size(path, model) else None
