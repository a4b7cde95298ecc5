"""The command as a whole: help, version, usage errors and bugs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.cli import errors

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = {"httpx", "pydantic", "vcr", "starlette", "uvicorn", "aiohttp", "yaml", "xllamacpp"}


def test_help_lists_every_command(program: Callable[..., Any]) -> None:
    """`llmengine --help` names each command and succeeds."""
    ran = program("--help")
    assert ran.status == 0
    for command in ("verify", "batch", "record", "replay", "contract", "mock", "models", "version"):
        assert f"│ {command} " in ran.out


def test_help_imports_nothing_heavy() -> None:
    """Building the command imports no HTTP client, server or recorder."""
    code = "import json, sys, pytest_llmengine.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version_is_one_line(llmengine: Callable[..., Any], argv: list[str]) -> None:
    """Both spellings print the name and the version."""
    ran = llmengine(*argv)
    assert ran.status == 0
    assert ran.out.startswith("llmengine ")
    assert ran.out.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nonsense"], "No such command 'nonsense'; see `llmengine --help`"),
        (["contract", "list", "--nope"], "No such option: --nope"),
        (["contract", "list", "--tier", "deep"], "'deep' is not one of"),
        (["contract", "explain"], "Missing argument 'ID'"),
    ],
)
def test_usage_error_is_one_line(llmengine: Callable[..., Any], argv: list[str], said: str) -> None:
    """A wrong command, option or value is one line on standard error and status 2."""
    ran = llmengine(*argv)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("llmengine: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_bug_has_its_traceback() -> None:
    """A KeyError is a LookupError too, but a bug, so its traceback is printed."""
    assert errors.user_message(KeyError("x")) is None
    assert errors.user_message(ZeroDivisionError()) is None
    assert errors.user_message(OSError("what is this")) is None
