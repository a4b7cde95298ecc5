"""Gets one wheel with the user's own pip, as the user has configured it, and installs nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_EVERY = 0.1
# No dependencies: they may build from source. Wheels only: nothing of the package is run.
# No cache: a second copy helps nobody, and a damaged one would come back.
_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)

_ERROR = re.compile(r"^ERROR: (.*)$", re.MULTILINE)
_NETWORK = re.compile(
    r"connection broken by '(.*)': /|Could not fetch URL .*?: (.*)$", re.MULTILINE
)


class DownloadFailedError(Exception):
    """pip did not bring the wheel; the message is the reason, in pip's words."""


def has_pip() -> bool:
    """Whether this Python can run pip; environments made by uv have none."""
    return importlib.util.find_spec("pip") is not None


def download(requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """The wheel of `requirement`, downloaded below the empty `folder`.

    Calls `on_bytes` with the bytes that have arrived while pip runs. Raises DownloadFailedError.
    """
    wheels, scratch, log = folder / "wheels", folder / "scratch", folder / "pip.log"
    scratch.mkdir()
    # -P: a user's folder with a json.py in it must not break pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *_OPTIONS]
    command += ["--dest", str(wheels), requirement]
    # pip fills a temporary file first; it has to lie where its growth can be seen.
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
                pip.wait(_LOOK_EVERY)
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        pip.kill()
        raise


def _largest_wheel(folder: Path) -> int:
    """Bytes of the largest wheel below `folder`: pip writes one, then copies it."""
    largest = 0
    for place, _, files in os.walk(folder):
        for name in files:
            if not name.endswith(".whl"):
                continue
            try:
                largest = max(largest, os.stat(os.path.join(place, name)).st_size)  # noqa: PTH116, PTH118 - os.walk gives strings
            except FileNotFoundError:  # pip moved it between the two looks
                continue
    return largest


def _reason(log: str, status: int) -> str:
    """The last error of pip, with the network's trouble when there was any, in one line."""
    errors = _ERROR.findall(log)
    broken = _NETWORK.findall(log)
    reasons = [errors[-1] if errors else f"pip ended with status {status}"]
    reasons += ["".join(found) for found in broken[-1:]]
    return "; ".join(reasons)
