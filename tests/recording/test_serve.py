"""The proxies as programs of their own, as `llmengine record` and `llmengine replay` run them."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, Whole

PROGRAM = """
import sys
from functools import partial
from pytest_llmengine.recording import record_forever, replay_forever

which, *arguments = sys.argv[1:]
run = {"record": record_forever, "replay": replay_forever}[which]
tape = run(*arguments, on_ready=partial(print, flush=True))
print(tape.misses)
"""


@contextmanager
def _running(*arguments: str, number: int = signal.SIGTERM) -> Iterator[tuple[str, list[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last: list[str] = []
    try:
        yield process.stdout.readline().strip(), last
        process.send_signal(number)
        last.append(process.stdout.read().strip())
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_and_saves(
    upstream: RawUpstream, whole: Whole, tmp_path: Path, ask: Ask, number: int
) -> None:
    """A directory is recorded into one file, and replayed as often as clients like."""
    upstream.will_send(whole(b"hello"))
    with _running("record", upstream.url, str(tmp_path), number=number) as (url, said):
        assert ask(url).text == "hello"
    assert said == ["[]"]
    assert (tmp_path / "recording.yaml").exists()
    with _running("replay", str(tmp_path), number=number) as (url, said):
        assert [ask(url).text for _ in range(2)] == ["hello", "hello"]
        assert ask(url, {"other": 1}).status_code == 501
    assert "has no answer" in said[0]


def test_a_long_recording_keeps_what_passed(tmp_path: Path, ask: Ask) -> None:
    """One call that failed is told, and does not cost the others."""
    file = tmp_path / "named.yaml"
    with _running("record", "http://127.0.0.1:9", str(file)) as (url, said):
        assert ask(url).status_code == 502
    assert "cannot be reached" in said[0]
    assert file.exists()
