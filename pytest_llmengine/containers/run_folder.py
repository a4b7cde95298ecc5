"""The folder by which the processes of a run tell each other what they started."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from pytest_llmengine.containers.owner import Owner

_PREFIX, _OWNER = "llmengine-run-", "owner.json"


def folder_of(owner: Owner) -> Path:
    """Where a run's folder is, whether it has been made or not."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{owner.run}"


def made_folder(owner: Owner) -> Path:
    """The run's folder, with its owner in it, so that the next run knows one that was left."""
    folder = folder_of(owner)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / _OWNER).write_text(json.dumps(asdict(owner)), "utf-8")
    return folder


def remove_left_folders() -> None:
    """Delete the folders of runs that were killed, or that a restart of the machine ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = _owner_in(folder)
        if owner is not None and owner.has_our_name and not (owner.is_here and owner.is_alive):
            shutil.rmtree(folder, ignore_errors=True)  # another run may be deleting it too


def _owner_in(folder: Path) -> Owner | None:
    """Who left a folder; None where it is another user's, or is being made or deleted."""
    try:
        return Owner(**json.loads((folder / _OWNER).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
