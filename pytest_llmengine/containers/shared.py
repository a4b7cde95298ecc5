"""One start for all processes of a run: whoever comes first starts, the others get what it got."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_llmengine.containers.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Served:
    """A container whose server answers: its id, the server's root URL, and the image's name."""

    container: str
    root_url: str
    image: str


def once(folder: Path, name: str, start: Callable[[], Served]) -> Served:
    """What the run's one call of `start` under this name gave, or the ContainerError it raised.

    A process that was killed while it started leaves no result: the next one starts anew.
    """
    result = folder / f"{name}.json"
    with FileLock(folder / f"{name}.lock"):
        if not result.exists():
            result.write_text(json.dumps(_outcome(start)), "utf-8")
        known = json.loads(result.read_text("utf-8"))
    if "error" in known:
        raise ContainerError(known["error"])
    return Served(**known)


def _outcome(start: Callable[[], Served]) -> dict[str, str]:
    try:
        return asdict(start())
    except ContainerError as error:
        return {"error": str(error)}
