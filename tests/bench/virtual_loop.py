"""An event loop in virtual time, so that tests have exact times and do not wait."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _NoWait(selectors.SelectSelector):
    """A selector that moves the time forward instead of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        """The sockets that are ready now."""
        self.loop.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while nothing can be done, or if a test moves it."""

    def __init__(self) -> None:
        selector = _NoWait()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """The virtual time."""
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of work on a new loop in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
