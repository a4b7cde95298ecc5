"""Reasons for other answers that lie in how a side was set up, not in how it computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.parity.facts import Facts


class Standing(StrEnum):
    """What is known of one cause."""

    EQUAL = "equal"
    PINNED = "pinned"  # both sides are told the value, whatever their own default is
    UNKNOWN = "unknown"
    MISMATCH = "mismatch"
    ALLOWED = "allowed"  # a mismatch that the user wants to be compared all the same


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause with what is known of it on each side; ``note`` says what was looked at."""

    name: str
    standing: Standing
    baseline: str = "unknown"
    candidate: str = "unknown"
    note: str = ""


NAMES = (
    "model",
    "version",
    "dtype",
    "prefix_caching",
    "batch_invariance",
    "generation_config",
    "sampling",
    "chat_template",
    "max_tokens",
)
"""The causes that a user may allow to differ; other prompts can never be compared."""


def of_facts(baseline: Facts, candidate: Facts) -> list[Cause]:
    """The causes that can be told from what the sides say of themselves."""
    return [
        _model(baseline, candidate),
        _compared("version", _release(baseline), _release(candidate)),
        _compared("dtype", baseline.dtype, candidate.dtype),
        _compared("prefix_caching", baseline.prefix_caching, candidate.prefix_caching),
        _compared("batch_invariance", baseline.batch_invariance, candidate.batch_invariance),
        _generation_config(baseline, candidate),
    ]


def allow(causes: Iterable[Cause], names: Iterable[str]) -> list[Cause]:
    """The causes, with the mismatches of these names allowed."""
    allowed = frozenset(names)
    return [_allowed(cause) if cause.name in allowed else cause for cause in causes]


def mismatches(causes: Iterable[Cause]) -> list[Cause]:
    """The causes that forbid a comparison."""
    return [cause for cause in causes if cause.standing is Standing.MISMATCH]


def _allowed(cause: Cause) -> Cause:
    if cause.standing is not Standing.MISMATCH:
        return cause
    return Cause(cause.name, Standing.ALLOWED, cause.baseline, cause.candidate, cause.note)


def _compared(name: str, ours: str | None, theirs: str | None, note: str = "") -> Cause:
    if ours is None or theirs is None:
        return Cause(name, Standing.UNKNOWN, ours or "unknown", theirs or "unknown", note)
    standing = Standing.EQUAL if ours == theirs else Standing.MISMATCH
    return Cause(name, standing, ours, theirs, note)


def _model(baseline: Facts, candidate: Facts) -> Cause:
    """A name that a server was given says nothing of its weights, unless it is another name."""
    if baseline.weights is not None and candidate.weights is not None:
        return _compared("model", baseline.weights, candidate.weights, "the name of the weights")
    cause = _compared(
        "model", baseline.model, candidate.model, "the name that the server was given"
    )
    if cause.standing is not Standing.EQUAL:
        return cause
    note = "the same name; which weights are behind it cannot be seen"
    return Cause("model", Standing.UNKNOWN, cause.baseline, cause.candidate, note)


def _release(facts: Facts) -> str | None:
    """Engine and version; the part behind a plus says how it was built."""
    if facts.engine is None or facts.version is None:
        return None
    return f"{facts.engine} {facts.version.partition('+')[0]}"


def _generation_config(baseline: Facts, candidate: Facts) -> Cause:
    """Defaults of the model cannot matter where every request says all."""
    ours, theirs = _defaults(baseline), _defaults(candidate)
    if baseline.unsent or candidate.unsent:
        note = "what is not sent is left to the server's own defaults"
        return Cause("generation_config", Standing.UNKNOWN, ours, theirs, note)
    note = "every sampling value is sent with every request"
    return Cause("generation_config", Standing.PINNED, ours, theirs, note)


def _defaults(facts: Facts) -> str:
    return f"not sent: {', '.join(facts.unsent)}" if facts.unsent else "overruled"
