"""How far a start is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

# What is being done, how much of it is done, and how much there is: bytes, or 0 where unknown.
OnProgress = Callable[[str, int, int], None]


class Layers:
    """Adds up the layers of a download, each of which reports for itself."""

    def __init__(self, what: str, on_progress: OnProgress) -> None:
        self._what = what
        self._on_progress = on_progress
        self._sizes: dict[str, tuple[int, int]] = {}
        on_progress(what, 0, 0)

    def report(self, layer: str, done: int, total: int) -> None:
        """Note the bytes of one layer and pass the sum on."""
        self._sizes[layer] = (done, total)
        sums = [sum(column) for column in zip(*self._sizes.values(), strict=True)]
        self._on_progress(self._what, *sums)


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
