"""Keeps a server up until somebody ends the command."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def until_signal() -> Iterator[Callable[[], object]]:
    """Gives a function that waits for Ctrl-C or SIGTERM.

    Inside, neither raises: a server is to be closed in order, its recording saved.
    """
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
