"""The report of a run: what was asked of the server, and what was measured, with its JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from pytest_llmengine.bench.run import OfferedLoad
    from pytest_llmengine.bench.samples import Objective
    from pytest_llmengine.bench.summary import Overhead, RateSummary

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured at each rate.

    ``target`` describes the server, ``prompts`` what it was asked. ``date`` is when the run began.
    ``is_interrupted`` says that further rates were planned.
    """

    target: str
    model: str
    prompts: str
    max_tokens: int
    load: OfferedLoad
    objectives: tuple[Objective, ...]
    overhead: Overhead
    rates: tuple[RateSummary, ...]
    date: str
    is_interrupted: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the server answered any request."""
        return any(rate.answered for rate in self.rates)

    def to_json(self) -> str:
        """The report as JSON text; its version is raised when a field is renamed or removed."""
        value: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "tool_version": tool_version(),
            "date": self.date,
            "target": self.target,
            "model": self.model,
            "prompts": self.prompts,
            "max_tokens": self.max_tokens,
            "load": asdict(self.load),
            "objectives": {one.metric.value: one.limit for one in self.objectives},
            "is_interrupted": self.is_interrupted,
            "overhead": self.overhead.to_dict(),
            "rates": [rate.to_dict() for rate in self.rates],
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
