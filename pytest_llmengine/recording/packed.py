"""The recordings of one engine: a folder of YAML files, or the same folder packed into a zip file.

A recording in a packed file has the path of the file followed by its own name, such as
``cassettes/ollama_api.zip/chat.user.yaml``. Packed recordings can be read like those in a folder.
They cannot be changed before they are unpacked.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from llmengine.config.documents import DocumentError, read_bytes, read_text, read_zipped
from llmengine.types.errors import ConfigError
from llmengine.types.file_names import path_below
from pytest_llmengine.recording.errors import CassetteError, CassetteNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

_PATTERN = "*.yaml"
_YAML = ".yaml"
_ZIP = ".zip"
# Fixed values, so that the same recordings give the same bytes on every system.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MODE = 0o644 << 16


def place_of(folder: Path) -> Path:
    """The place of an engine's recordings: the folder, or the packed file beside it.

    Raises CassetteError if both have recordings, because it is not known which of them are right.
    """
    packed = _packed_file(folder)
    if not packed.is_file():
        return folder
    if next(folder.rglob(_PATTERN), None) is not None:
        raise CassetteError(
            f"both the folder {folder} and {packed} have recordings; delete the one that is "
            "outdated, or give the recordings of another server another name"
        )
    return packed


def is_packed(path: Path) -> bool:
    """Whether the path is a packed file, or a recording in one."""
    return _archive_of(path) is not None


def recordings_in(place: Path) -> list[Path]:
    """The paths of all recordings in a folder or a packed file, sorted; none if it is missing."""
    if is_packed(place):
        return [place / name for name in _names(place)]
    return sorted(place.rglob(_PATTERN))


def read_recording(path: Path) -> str:
    """The text of one recording.

    Raises CassetteNotFoundError if there is none, DocumentError if it cannot be read.
    """
    archive = _archive_of(path)
    try:
        if archive is None:
            return read_text(path)
        return read_zipped(_opened(archive), path.relative_to(archive).as_posix())
    except (FileNotFoundError, KeyError):
        raise CassetteNotFoundError(path) from None


def check_writable(path: Path) -> None:
    """Raise CassetteError if a recording at this path would have to change a packed file."""
    archive = _archive_of(path)
    if archive is not None:
        raise CassetteError(
            f"{archive} is packed, so nothing can be recorded there: unpack it with `llmengine "
            f"cassettes unpack {archive}`, record, and pack it again with `llmengine cassettes "
            f"pack {archive.with_suffix('')}`"
        )


def pack(folder: Path) -> Path:
    """Replace a folder of recordings by a packed file beside it, and return its path.

    The folder is removed after the file was written and read again. Raises CassetteError if there
    is nothing to pack, if the folder has other files too, or if the packed file already exists.
    """
    packed = _packed_file(folder)
    if is_packed(folder):
        raise CassetteError(f"{folder} is already packed")
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    if not files:
        raise CassetteError(f"there are no recordings to pack in {folder}")
    if others := [path for path in files if path.suffix != _YAML or path.is_symlink()]:
        raise CassetteError(
            f"{others[0]} is not a recording, and {folder} would be removed; move it elsewhere"
        )
    place_of(folder)  # raises an error if there is a packed file too
    contents = {path.relative_to(folder).as_posix(): _content(path) for path in files}
    part = packed.with_name(f".{packed.name}.part")
    with ZipFile(part, "w") as archive:
        for name in sorted(contents):
            archive.writestr(_entry(name), contents[name], ZIP_DEFLATED, compresslevel=9)
    with ZipFile(part) as archive:
        if {name: archive.read(name) for name in archive.namelist()} != contents:
            raise CassetteError(f"{part} does not hold what was packed; {folder} was not removed")
    part.replace(packed)
    _remove(folder, files)
    return packed


def unpack(packed: Path) -> Path:
    """Replace a packed file by the folder of its recordings, and return the folder.

    Raises CassetteError if the file is not a packed file, or if the folder has recordings.
    """
    if not packed.is_file() or packed.suffix != _ZIP:
        raise CassetteError(f"{packed} is not a packed file of recordings, such as embedded{_ZIP}")
    folder = packed.with_suffix("")
    place_of(folder)  # raises an error if the folder has recordings
    contents = {_below(folder, name): _content(packed / name) for name in _names(packed)}
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    packed.unlink()
    return folder


def _content(path: Path) -> bytes:
    try:
        return read_recording(path).encode()
    except DocumentError as error:
        raise CassetteError(f"{path} is not a recording that can be read: {error}") from error


def _packed_file(folder: Path) -> Path:
    return folder.with_name(folder.name + _ZIP)


def _archive_of(path: Path) -> Path | None:
    """The packed file in a path, or None."""
    places = (path, *path.parents)
    return next((place for place in places if place.suffix == _ZIP and place.is_file()), None)


def _names(archive: Path) -> list[str]:
    return sorted(name for name in _opened(archive).namelist() if name.endswith(_YAML))


def _below(folder: Path, name: str) -> Path:
    try:
        return path_below(folder, name, "the name of a recording")
    except ConfigError as error:
        raise CassetteError(str(error)) from None


def _opened(archive: Path) -> ZipFile:
    """The archive, held in memory; read again if the file has changed."""
    state = archive.stat()
    return _loaded(archive, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=32)
def _loaded(archive: Path, _changed: int, _size: int) -> ZipFile:
    """The archive in memory, so that each process reads its list of names once."""
    try:
        return ZipFile(BytesIO(read_bytes(archive)))
    except (BadZipFile, DocumentError) as error:
        raise CassetteError(f"{archive} is not a packed file of recordings: {error}") from error


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = _UNIX, _MODE
    return entry


def _remove(folder: Path, files: list[Path]) -> None:
    for path in files:
        path.unlink()
    folders = [path for path in folder.rglob("*") if path.is_dir()]
    for path in sorted([folder, *folders], reverse=True):
        with suppress(OSError):  # something was added in the meantime
            path.rmdir()
