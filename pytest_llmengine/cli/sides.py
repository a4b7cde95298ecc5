"""The sides of a comparison from what the command line says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.parity import Live, ParityError, Side, load
from pytest_llmengine.parity.saved import is_saved
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from contextlib import ExitStack


@dataclass(frozen=True, slots=True)
class Aim:
    """Where one side is found: an engine's name or a file, with what was said about it."""

    name: str
    url: str | None = None
    model: str | None = None
    stated: tuple[str, ...] = ()


def open_side(aim: Aim, config: Path | None, batch: int, stack: ExitStack) -> Live | Side:
    """The side, read or opened for as long as the stack lasts.

    Raises ParityError or TargetError, in one line that says what to do.
    """
    if is_saved(aim.name):
        return _read(aim)
    settings = Settings(
        engines=(aim.name,), url=aim.url, model=aim.model, config=config, mode=Mode.LIVE
    )
    session = stack.enter_context(open_session(aim.name, settings))
    return Live(session, aim.stated, batch)


def _read(aim: Aim) -> Side:
    if aim.url or aim.model or aim.stated:
        raise ParityError(f"{aim.name} is a saved side: leave its URL, model and facts out")
    return load(Path(aim.name))
