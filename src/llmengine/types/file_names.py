"""Safe file names and paths from the names of users, models and files, for any system."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


_UNSAFE = re.compile(r"[^A-Za-z0-9._=+\[\]-]+")
_LONGEST = 120  # most systems allow 255 bytes per file name, encrypted ones 143
_HASH = 8
# Names of Windows devices, which are reserved in every folder and with any suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NOT_IN_A_PART = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:|[. ]$")


def file_name(text: str) -> str:
    """A file name for any text: the text itself if possible, else a safe name with a hash.

    The hash keeps the names of different texts different.
    """
    safe = _UNSAFE.sub("-", text) if text.strip(".") else "-"
    if safe == text and len(safe) <= _LONGEST and not _is_reserved(safe):
        return safe
    if _DEVICE.fullmatch(safe):
        safe = f"_{safe}"
    return f"{safe[:_LONGEST]}-{sha256(text.encode()).hexdigest()[:_HASH]}"


def path_below(folder: Path, name: str, what: str) -> Path:
    """The path with that name below the folder; the name may have folders, as in ``a/b``.

    Raises ConfigError, whose message begins with `what`, if the name may lead elsewhere on any
    system: an absolute path, ``..``, a drive, a device, or a character that file names must not
    have.
    """
    if any(_is_reserved(part) for part in name.split("/")):
        raise ConfigError(
            f"{what}: {name!r} cannot be a path below {folder}; give one such as a/b, without "
            "'..', a leading '/', a backslash, a control character or a name of a device"
        )
    return folder / name


def _is_reserved(part: str) -> bool:
    return not part or bool(_NOT_IN_A_PART.search(part) or _DEVICE.fullmatch(part))
