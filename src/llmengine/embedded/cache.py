"""Where the user's downloaded models are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.embedded.catalogue import CatalogueModel


def models_dir() -> Path:
    """The folder of downloaded models; it need not exist.

    ``LLMENGINE_CACHE`` comes first, then ``XDG_CACHE_HOME``, then the platform's own place.
    """
    if chosen := os.environ.get("LLMENGINE_CACHE"):
        return Path(chosen).expanduser() / "models"
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "llmengine" / "models"
    return _platform_dir() / "models"


def cached_path(model: CatalogueModel) -> Path:
    """Where the cache keeps the file of `model`, whether it is there or not."""
    return models_dir() / model.file_name


def has_size(path: Path, model: CatalogueModel) -> bool:
    """Whether `path` is a file as long as that of `model`: the quick check, made at every use."""
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
