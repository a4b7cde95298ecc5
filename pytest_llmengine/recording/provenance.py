"""Where a recording comes from: engine, model, date, upstream and tool."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmengine.types.secrets import scrub
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "llmengine"  # its key in vcrpy's cassette metadata


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which engine answered, and when; None means that a fact is not known.

    ``model_digest`` is a hash of the weights. ``auth`` is "bearer" if a key was used.
    ``recorded_at`` is a date in UTC, ``tool`` the version of this package, and ``upstream`` the
    server's address, without its port if it is on loopback; the recorder fills in these three if
    they are None. ``image`` is the container image if the server ran in one. ``name`` is the
    name that the user gave to the server, and ``backend`` the backend for it, if its folder does
    not have the name of an engine.
    """

    engine: str | None = None
    version: str | None = None
    model: str | None = None
    model_digest: str | None = None
    auth: str | None = None
    recorded_at: str | None = None
    tool: str | None = None
    upstream: str | None = None
    image: str | None = None
    name: str | None = None
    backend: str | None = None

    def completed(self, upstream: str) -> Provenance:
        """These facts with today's date, this package's version and `upstream` filled in."""
        return replace(
            self,
            recorded_at=self.recorded_at or datetime.now(UTC).date().isoformat(),
            tool=self.tool or f"pytest-llmengine {tool_version()}",
            upstream=self.upstream or upstream,
        )

    def to_metadata(self) -> dict[str, str]:
        """The known facts as they are written to the file, with keys scrubbed."""
        return {k: scrub(str(v)) for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Provenance:
        """The facts in a cassette's metadata; all are None if another tool wrote the file."""
        facts = metadata.get(KEY) or {}
        names = {f.name for f in fields(cls)}
        return cls(**{k: str(v) for k, v in facts.items() if k in names})

    def describe(self) -> str:
        """One line for reports: ``llama.cpp b11549 (smollm2-135m), recorded 2026-11-21``."""
        return f"{self.who()}, recorded {self.recorded_at or 'at an unknown time'}"

    def who(self) -> str:
        """The engine, its model and its image: ``Ollama 0.32.15 (m), docker image mine:1``."""
        engine = " ".join(p for p in (self.engine or "an unnamed engine", self.version) if p)
        model = f" ({self.model})" if self.model else ""
        image = f", docker image {self.image}" if self.image else ""
        return f"{engine}{model}{image}"
