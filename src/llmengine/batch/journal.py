"""The output of a batch, which is also its journal: a line that it holds is done, others are not.

Only one run at a time may write to an output. Two runs would send every request twice and mix
their lines.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from llmengine.batch.format import id_key, key_of, line_key, read_entries, temporary
from llmengine.batch.request import EXTRA, START
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedRandom

    from llmengine.batch.format import BatchSource, Entry


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # checked before use


_HELD = frozenset({errno.EACCES, errno.EAGAIN})
_BLOCK = 2**16
_OK = 200
SYNC_SECONDS = 1.0


@contextmanager
def sole_writer(output: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``<output>.lock``; raises ConfigError if another run holds it for `patience` seconds.

    The lock is beside the file that `output` resolves to, so links to one file share one lock.
    The operating system releases it when the process ends, however it ends. The empty lock file
    stays: if it were removed, a third run could lock a new file while the second run still holds
    the old one.
    """
    try:
        real = output.resolve()
    except (OSError, RuntimeError) as error:  # symbolic links in a circle
        raise ConfigError(f"{output}: {error}; give another output") from None
    lock = FileLock(f"{real}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise _taken(output) from None
    try:
        with _only_name(real, output):
            yield
    finally:
        lock.release()


@contextmanager
def _only_name(real: Path, output: Path) -> Iterator[None]:
    """Lock the file itself too, since another run may have opened it by a hard link."""
    if fcntl is None:
        if real.exists() and real.stat().st_nlink > 1:
            raise ConfigError(
                f"{output}: has more than one name (hard links), and this system cannot tell "
                "whether another run is writing to it; give an output with one name"
            )
        yield
        return
    descriptor = os.open(real, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise _taken(output) from None
            # Some network file systems do not have such locks. Then the lock file must be enough.
        yield
    finally:
        os.close(descriptor)


def _taken(output: Path) -> ConfigError:
    return ConfigError(
        f"{output}: another run is writing to it; wait for its end, or give another output"
    )


def read_batch(
    output: str | os.PathLike[str], source: BatchSource
) -> Iterator[dict[str, Any] | None]:
    """The output's line for each line of the source, in the source's order; None if missing.

    It needs little memory for any size. Raises ConfigError if the file is not a batch's output.
    """
    path = Path(output)
    with closing(temporary()) as index, path.open("rb") as file:
        index.execute("CREATE TABLE lines (key BLOB PRIMARY KEY, start INT) WITHOUT ROWID")
        for found in scan(path):
            index.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (found.key, found.start))
        for entry in read_entries(source):
            where = "SELECT start FROM lines WHERE key = ?"
            row = index.execute(where, (key_of(entry),)).fetchone()
            if row is not None:
                file.seek(row[0])
            yield None if row is None else json.loads(file.readline())


@dataclass(frozen=True, slots=True)
class Found:
    """One line of an output: its key, whether it is an answer, and its bytes in the file."""

    key: bytes
    ok: bool
    start: int
    size: int


def mend(path: Path) -> None:
    """Remove a last line that a killed run did not finish; a whole one gets its newline.

    Raises ConfigError if the end of the file was not written by a batch.
    """
    with path.open("r+b") as file:
        start = _start_of_tail(file)
        file.seek(start)
        tail = file.read()
        if _object(tail) is not None:
            file.write(b"\n")
        elif tail.startswith(START) or START.startswith(tail):
            file.truncate(start)
        else:
            raise ConfigError(_foreign(path, "its last line"))


def scan(path: Path) -> Iterator[Found]:
    """Every line of a mended output; raises ConfigError for a line that no batch has written."""
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            yield read_line(raw, start, path, f"line {number}")
            start += len(raw)


def read_line(raw: bytes, start: int, path: Path, where: str) -> Found:
    """What one output line says; raises ConfigError, naming path and place, for a foreign line."""
    value = _object(raw)
    if value is None or not {"custom_id", "response", "error"} <= value.keys():
        raise ConfigError(_foreign(path, where))
    key = _key(value)
    if key is None:
        raise ConfigError(_foreign(path, where))
    return Found(key, _is_answer(value), start, len(raw))


def _start_of_tail(file: BufferedRandom) -> int:
    end = file.seek(0, 2)
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _key(value: dict[str, Any]) -> bytes | None:
    custom_id, error = value["custom_id"], value["error"]
    if isinstance(custom_id, str):
        return id_key(custom_id)
    extra = error.get(EXTRA) if isinstance(error, dict) else None
    if isinstance(extra, dict) and isinstance(extra.get("line"), int):
        return line_key(extra["line"])
    return None


def _is_answer(value: dict[str, Any]) -> bool:
    response = value["response"]
    answered = isinstance(response, dict) and response.get("status_code") == _OK
    return answered and value["error"] is None


def _foreign(path: Path, where: str) -> str:
    return (
        f"{path}: {where} is not the output of a batch; "
        "give another output, or move this file out of the way"
    )


class Journal:
    """An output that is appended to, line by line; one writer at a time.

    A line has been passed to the operating system before `add` returns, so a killed process
    loses no lines. It is synced to the disk within a second, so a power cut loses at most the
    lines of one second. A new line for an id replaces the old one: the file holds both until it
    is closed normally; then a new file without the old lines is written and renamed to it.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self._replaced = 0
        self._synced_at = time.monotonic()
        self._dirty = False
        fresh = os.O_TRUNC if not keep else 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | fresh, 0o666)
        self._index = temporary()
        try:
            self._end = self._load()
        except BaseException:
            self._close()
            raise

    def ok(self, entry: Entry) -> bool | None:
        """Whether the entry was answered (True) or failed (False); None if it has no line yet."""
        return self._ok(key_of(entry))

    def was_bad(self, entry: Entry) -> bool:
        """Whether the entry's line was not a valid request in an earlier run."""
        return self._ok(line_key(entry.line)) is not None

    def mended(self, entry: Entry) -> None:
        """Forget the error of a line that had no id, now that its entry has one."""
        self._forget(line_key(entry.line))

    def add(self, entry: Entry, record: bytes, *, ok: bool) -> None:
        """Append the entry's line."""
        self._append(Found(key_of(entry), ok, self._end, len(record)), record)

    def take(self, lines: Iterable[bytes], source: Path) -> None:
        """Append the lines of another journal of the same batch, and sync them to the disk.

        Raises ConfigError that names the source and the line for a line that no batch has written.
        """
        for number, record in enumerate(lines, start=1):
            self._append(read_line(record, self._end, source, f"line {number}"), record)
        self._sync()

    def sync(self) -> None:
        """Sync appended lines to the disk, unless that was done within the last second."""
        if self._dirty and time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self._sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            self._sync()
            # Not after an interrupt, which may have come between writing a line and noting it.
            if self._replaced and kind is None:
                self._compact()
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._index.close()

    def _load(self) -> int:
        self._index.execute(
            "CREATE TABLE lines (key BLOB PRIMARY KEY, ok INT, start INT, size INT) WITHOUT ROWID"
        )
        mend(self._path)
        end = 0
        for found in scan(self._path):
            self._note(found)
            end = found.start + found.size
        return end

    def _append(self, found: Found, record: bytes) -> None:
        self._write(record)
        self._note(found)
        self._end += len(record)
        self._dirty = True
        self.sync()

    def _ok(self, key: bytes) -> bool | None:
        row = self._index.execute("SELECT ok FROM lines WHERE key = ?", (key,)).fetchone()
        return None if row is None else bool(row[0])

    def _note(self, found: Found) -> None:
        self._forget(found.key)
        row = (found.key, found.ok, found.start, found.size)
        self._index.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", row)

    def _forget(self, key: bytes) -> None:
        self._replaced += self._index.execute("DELETE FROM lines WHERE key = ?", (key,)).rowcount

    def _write(self, record: bytes) -> None:
        left = memoryview(record)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()
        self._dirty = False

    def _compact(self) -> None:
        """Write a new file with the last line of every key, and replace the old one atomically."""
        place = self._path.resolve()  # a symbolic link stays a link
        beside = place.with_name(f"{place.name}.new")
        rows = self._index.execute("SELECT start, size FROM lines ORDER BY start")
        with place.open("rb") as old, beside.open("wb") as new:
            for start, size in rows:
                old.seek(start)
                new.write(old.read(size))
            new.flush()
            os.fsync(new.fileno())
        shutil.copymode(place, beside)
        beside.replace(place)
