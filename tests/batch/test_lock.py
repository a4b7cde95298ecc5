"""Only one run at a time writes to an output, under any name of the file."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, run_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llmengine import Engine
    from llmengine.mock import MockServer


@pytest.fixture
def running(
    server: MockServer, engine: Engine, source: Callable[..., Path], output: Path, kit: Any
) -> Iterator[Path]:
    """A run that writes to the output until the test ends."""
    lines = source(kit.request("a"))
    at_work, over = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        at_work.set()
        assert over.wait(30)

    thread = threading.Thread(
        target=run_batch, args=(lines, output, engine), kwargs={"on_progress": wait}
    )
    thread.start()
    assert at_work.wait(30)
    yield lines
    over.set()
    thread.join(30)


def _symlink(output: Path) -> Path:
    link = output.with_name("link.jsonl")
    link.symlink_to(output)
    return link


def _folder_link(output: Path) -> Path:
    link = output.parent / "folder"
    link.symlink_to(output.parent, target_is_directory=True)
    return link / output.name


def _hard_link(output: Path) -> Path:
    link = output.with_name("hard.jsonl")
    os.link(output, link)
    return link


def _dotted(output: Path) -> Path:
    return output.parent / "." / ".." / output.parent.name / output.name


def _relative(output: Path) -> Path:
    return output.relative_to(output.parents[1])


@pytest.mark.parametrize("name", [_symlink, _folder_link, _hard_link, _dotted, _relative])
def test_second_run_under_another_name_is_refused(
    running: Path,
    output: Path,
    engine: Engine,
    name: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two runs would send everything twice and mix their lines."""
    monkeypatch.chdir(output.parents[1])

    with pytest.raises(ConfigError, match="another run is writing to it"):
        run_batch(running, name(output), engine)


def test_other_outputs_are_free(running: Path, output: Path, engine: Engine) -> None:
    """The lock is for one file and not for its folder."""
    assert run_batch(running, output.with_name("other.jsonl"), engine).ok


def test_links_in_a_circle_are_an_error(
    engine: Engine, source: Callable[..., Path], output: Path, kit: Any
) -> None:
    """The error is a ConfigError that names the output."""
    output.symlink_to(output)

    with pytest.raises(ConfigError, match=r"out\.jsonl"):
        run_batch(source(kit.request("a")), output, engine)
