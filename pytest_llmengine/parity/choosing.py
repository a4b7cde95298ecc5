"""Which prompts two sides are compared by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmengine.parity.errors import ParityError
from pytest_llmengine.parity.prompt_files import built_in, read_prompts, select
from pytest_llmengine.parity.side import Side

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.parity.live import Live
    from pytest_llmengine.parity.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a user says of the prompts: a file, kinds, how many, and a token limit for all."""

    file: Path | None = None
    kinds: tuple[str, ...] = ()
    limit: int | None = None
    max_tokens: int | None = None


def choose(
    baseline: Live | Side | None, candidate: Live | Side | None, selection: Selection
) -> list[Prompt]:
    """The prompts for a comparison; a saved side brings those that it was asked.

    Raises ParityError where a saved side should be asked something else.
    """
    saved = [side for side in (baseline, candidate) if isinstance(side, Side)]
    if not saved:
        return _fresh(selection)
    if selection.file is not None or selection.max_tokens is not None:
        raise ParityError(
            f"{saved[0].source} holds the prompts that it was asked, with limits; leave a file "
            "of prompts and --max-tokens out"
        )
    chosen = {p.id: p for s in reversed(saved) for p in _selected(s.prompts, selection)}
    return list(chosen.values())


def _fresh(selection: Selection) -> list[Prompt]:
    prompts = built_in() if selection.file is None else read_prompts(selection.file)
    chosen = _selected(prompts, selection)
    if selection.max_tokens is None:
        return chosen
    return [replace(prompt, max_tokens=selection.max_tokens) for prompt in chosen]


def _selected(prompts: list[Prompt] | tuple[Prompt, ...], selection: Selection) -> list[Prompt]:
    return select(prompts, selection.kinds, selection.limit)
