"""The two sides of ``llmengine parity``, opened or read from the command line's options."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.parity import Live, ParityError, Side, load
from pytest_llmengine.parity.side import is_saved
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.containers.docker import OnProgress


@dataclass(frozen=True, slots=True)
class SideArguments:
    """One side on the command line: an engine's name or a file, with its URL, model and facts."""

    name: str
    url: str | None
    model: str | None
    facts: tuple[str, ...]


@contextmanager
def open_side(
    side: SideArguments, config: Path | None, batch: int, on_progress: OnProgress
) -> Iterator[Live | Side]:
    """The side, read from a file, or a live engine that is open inside of the block.

    Raises ParityError or TargetError with one line that says what to do.
    """
    if is_saved(side.name):
        yield _load(side)
        return
    settings = Settings(
        engines=(side.name,), url=side.url, model=side.model, config=config, mode=Mode.LIVE
    )
    with open_session(side.name, settings) as session:
        yield Live(session, side.facts, batch, on_progress)


def _load(side: SideArguments) -> Side:
    if side.url or side.model or side.facts:
        raise ParityError(f"{side.name} is a saved side: leave out its URL, model and facts")
    return load(Path(side.name))
