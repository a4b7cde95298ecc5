"""The recorder and the replayer by themselves, for programs that are not run by pytest."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmengine.recording.record import RecordServer
from pytest_llmengine.recording.replay import ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.recording.tape import RecordTape, ReplayTape

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def record_forever(
    upstream: str,
    path: Path | str,
    *,
    on_ready: Callable[[str], None],
    **options: Any,
) -> RecordTape:
    """Record until SIGINT or SIGTERM, then write one file and give back what was seen.

    `path` is a ``.yaml`` file, or a directory that gets ``recording.yaml``. `on_ready` is called
    with the address to aim clients at. `options` are RecordServer's. The file holds every exchange
    that passed also when others failed; those are in the tape's ``misses``. Only for the main
    thread, where signals arrive.
    """
    file = Path(path) if Path(path).suffix in {".yaml", ".yml"} else Path(path) / "recording.yaml"
    with (
        _asked_to_stop() as asked,
        RecordServer(upstream, **options) as server,
        server.cassette(file) as tape,
    ):
        on_ready(server.root_url)
        asked.wait()
    if tape.misses:
        tape.write()
    return tape


def replay_forever(
    path: Path | str,
    *,
    on_ready: Callable[[str], None],
    repeats: bool = True,
    **options: Any,
) -> ReplayTape:
    """Replay until SIGINT or SIGTERM, and give back the tape with its misses.

    `path` is one file, or a directory whose files are played as one, in the order of their names.
    An answer may be had again (`repeats`), so that clients can be restarted. `options` are
    ReplayServer's. Raises CassetteError. Only for the main thread, where signals arrive.
    """
    with (
        _asked_to_stop() as asked,
        ReplayServer(repeats=repeats, **options) as server,
        server.cassette(path) as tape,
    ):
        on_ready(server.root_url)
        asked.wait()
    return tape


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
