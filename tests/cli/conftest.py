"""Runs the command in this process, or as a program if a test needs one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-m", "pytest_llmengine.cli"]


@dataclass(frozen=True, slots=True)
class Ran:
    """The status and the output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def command() -> list[str]:
    """The command line that starts the program."""
    return COMMAND


@pytest.fixture
def serving() -> Callable[..., Any]:
    """Starts a command that serves; returns the process and the printed address."""

    @contextmanager
    def serve(*argv: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
        with subprocess.Popen(
            [*COMMAND, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process, process.stdout.readline().strip()
            finally:
                process.kill()

    return serve


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the width that pytest-xdist sets for its workers, because it wraps lines in a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def llmengine(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The command, run in this process."""

    def run(*argv: object) -> Ran:
        capsys.readouterr()
        status = main([str(a) for a in argv])
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return run


@pytest.fixture
def program() -> Callable[..., Ran]:
    """The command, run as another process."""

    def run(*argv: object, **environment: str) -> Ran:
        done = subprocess.run(  # noqa: PLW1510 - the status is what tests look at
            [*COMMAND, *map(str, argv)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environment},
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
