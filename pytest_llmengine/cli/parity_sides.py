"""The two sides of ``llmengine parity``, opened or read from the command line's options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.parity import Live, ParityError, Side, load
from pytest_llmengine.parity.side import is_saved
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack


@dataclass(frozen=True, slots=True)
class Aim:
    """One side on the command line: an engine's name or a file, with its URL, model and facts."""

    name: str
    url: str | None = None
    model: str | None = None
    stated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """How both sides are opened: engines file, batch size, progress callback, and exit stack."""

    config: Path | None
    batch: int
    watch: Callable[[str], None]
    stack: ExitStack


def open_side(aim: Aim, way: Way) -> Live | Side:
    """The side, read from a file, or opened until the stack is closed.

    Raises ParityError or TargetError with one line that says what to do.
    """
    if is_saved(aim.name):
        return _read(aim)
    settings = Settings(
        engines=(aim.name,), url=aim.url, model=aim.model, config=way.config, mode=Mode.LIVE
    )
    session = way.stack.enter_context(open_session(aim.name, settings))
    return Live(session, aim.stated, way.batch, way.watch)


def _read(aim: Aim) -> Side:
    if aim.url or aim.model or aim.stated:
        raise ParityError(f"{aim.name} is a saved side: leave its URL, model and facts out")
    return load(Path(aim.name))
