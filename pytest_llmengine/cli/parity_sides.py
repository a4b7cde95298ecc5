"""The sides of a comparison from what the command line says of them."""

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
    """Where one side is found: an engine's name or a file, with what was said about it."""

    name: str
    url: str | None = None
    model: str | None = None
    stated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """How sides are opened: the engines file, the batch, who is told, and who closes them."""

    config: Path | None
    batch: int
    watch: Callable[[str], None]
    stack: ExitStack


def open_side(aim: Aim, way: Way) -> Live | Side:
    """The side, read or opened for as long as the stack lasts.

    Raises ParityError or TargetError, in one line that says what to do.
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
