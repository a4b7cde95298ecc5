"""A baseline: what a server answered when it was known to be right, and the file that holds it.

A file is JSON Lines: a head, and one line per session. It is compressed if its name ends in .gz.
A recorded candidate has the same format.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Any

from llmengine.config.documents import read_json_lines
from pytest_llmengine.drift.answers import (
    STRICT,
    DriftError,
    DriftPrompt,
    DriftSession,
    RoundKind,
    from_dict,
    to_dict,
)


class DriftTier(StrEnum):
    """What a check compares.

    These are log-probabilities and text, text only, or sampled tokens with those of a reference
    that has the same weights.
    """

    LOGPROBS = "logprobs"
    TEXT = "text"
    WEIGHTS = "weights"


class DriftUnit(StrEnum):
    """What may change places between baseline and candidate if nothing has changed."""

    ROUND = "round"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFacts:
    """Which server was measured, in its own words; None means that a fact is not known.

    ``name`` is the engine's name, which opens it again. ``url`` is the address that the user gave.
    ``weights`` is a hash or a name of the loaded weights, ``context`` the context in tokens.
    """

    __pydantic_config__ = STRICT

    name: str
    backend: str
    url: str | None = None
    server: str | None = None
    version: str | None = None
    model: str | None = None
    weights: str | None = None
    context: int | None = None

    def describe(self) -> str:
        """Program, version and model in a few words."""
        words = " ".join(word for word in (self.server or self.backend, self.version) if word)
        return f"{words} ({self.model or 'unknown model'})"


LOADS = (1, 4, 16)
"""So many requests are in flight in a round: one at a time, some, or a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is asked: it is the same for the baseline and for every candidate.

    ``sampling`` are the values that all requests share. ``loads`` are the numbers of requests in
    flight, one of which is drawn for each round.
    """

    __pydantic_config__ = STRICT

    tier: DriftTier
    sampling: Mapping[str, int | float]
    prompts: tuple[DriftPrompt, ...]
    loads: tuple[int, ...] = LOADS

    def of_kind(self, kind: RoundKind) -> dict[int, DriftPrompt]:
        """The prompts of this kind, with their positions."""
        return {n: prompt for n, prompt in enumerate(self.prompts) if prompt.kind is kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Everything that a check needs of a server which is known to be right.

    ``unit`` is what the test of a candidate exchanges. ``self_test`` is the p-value of the
    hypothesis that the sessions do not differ, and ``load_dependence`` that of the hypothesis that
    answers do not depend on the number of requests in flight; None: there are too few to tell.
    ``tolerance`` is the energy distance up to which a difference counts as none, in prompts; it is
    None if the user gave none.
    ``search_requests`` is what the choice of the prompts cost. ``source`` is the file that the
    baseline was read from.
    """

    __pydantic_config__ = STRICT

    facts: DriftFacts
    probe: Probe
    sessions: tuple[DriftSession, ...]
    unit: DriftUnit
    self_test: float | None = None
    load_dependence: float | None = None
    tolerance: float | None = None
    search_requests: int = 0
    date: str
    tool_version: str
    source: str | None = field(default=None, compare=False)

    def describe(self) -> str:
        """The server and where its answers come from, in one line."""
        origin = f", saved in {self.source}" if self.source else ""
        return f"{self.facts.name}: {self.facts.describe()}, {self.date}{origin}"


FORMAT = "llmengine-drift"
VERSION = 1
ENDINGS = (".jsonl", ".jsonl.gz")


def check_path(path: Path) -> None:
    """Raise DriftError unless a baseline can be saved at this path; called before the run."""
    if not path.name.endswith(ENDINGS):
        raise DriftError(f"file {path}: the name must end in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise DriftError(f"file {path}: there is no directory {path.parent}; make it first")


def save(baseline: Baseline, path: Path) -> None:
    """Write a baseline to a file; equal baselines give equal bytes."""
    check_path(path)
    head = to_dict(replace(baseline, sessions=(), source=None))
    head.pop("sessions", None)
    rows = [{"format": FORMAT, "version": VERSION, **head}]
    rows += [session.to_dict() for session in baseline.sessions]
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def load(path: Path) -> Baseline:
    """The baseline in a file.

    Raises DriftError if the file does not exist, is not a baseline, or has another version.
    """
    try:
        head, *rows = read_json_lines(path)
    except OSError as error:
        raise DriftError(f"baseline {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DriftError(f"baseline {path}: {error}") from error
    _check_head(head, path)
    head = {name: value for name, value in head.items() if name not in {"format", "version"}}
    try:
        baseline = from_dict(Baseline, {**head, "sessions": rows, "source": None})
        _check_answers(baseline)
    except DriftError as error:
        raise DriftError(f"baseline {path}: {error}") from None
    return replace(baseline, source=path.name)


def _check_head(head: Any, path: Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise DriftError(f"baseline {path}: this is not a file that `llmengine drift record` wrote")
    if head.get("version") != VERSION:
        raise DriftError(
            f"baseline {path}: format version {head.get('version')}, and this package reads "
            f"{VERSION}; update pytest-llmengine, or record it again"
        )


def _check_answers(baseline: Baseline) -> None:
    """Raise DriftError unless every round has one answer per prompt, in order."""
    expected = {kind: list(baseline.probe.of_kind(kind)) for kind in RoundKind}
    for number, session in enumerate(baseline.sessions, 1):
        for one in session.rounds:
            if [answer.prompt for answer in one.answers] != expected[one.kind]:
                raise DriftError(
                    f"session {number}: a round must have one answer to each of the "
                    f"{len(expected[one.kind])} prompts of its kind, in order"
                )
