"""Where a recording comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "llmengine"  # the entry of vcrpy's cassette metadata that holds it


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which engine answered, and when; None is not known.

    ``model_digest`` names the weights (a hash). ``auth`` is "bearer" where the server was given a
    key. ``recorded_at`` is a date in UTC, ``tool`` the version of this package, ``upstream`` the
    address without a port on loopback; the recorder fills these three in where they are None.
    ``image`` is the container image that the server ran in, if it did.
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

    def completed(self, upstream: str) -> Provenance:
        """These facts with today's date, this package's version and `upstream` filled in."""
        return replace(
            self,
            recorded_at=self.recorded_at or datetime.now(UTC).date().isoformat(),
            tool=self.tool or _tool(),
            upstream=self.upstream or upstream,
        )

    def to_metadata(self) -> dict[str, str]:
        """The facts that are known, keys scrubbed, as they are written into the file."""
        return {k: scrub(str(v)) for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Provenance:
        """The facts that a cassette's metadata holds; none for a file that another tool wrote."""
        facts = metadata.get(KEY) or {}
        names = {f.name for f in fields(cls)}
        return cls(**{k: str(v) for k, v in facts.items() if k in names})

    def describe(self) -> str:
        """One line for a report: ``llama.cpp b11549 (smollm2-135m), recorded 2026-11-21``."""
        return f"{self.who()}, recorded {self.recorded_at or 'at an unknown time'}"

    def who(self) -> str:
        """The engine, its model, and its image: ``Ollama 0.32.15 (m), docker image mine:1``."""
        engine = " ".join(p for p in (self.engine or "an unnamed engine", self.version) if p)
        model = f" ({self.model})" if self.model else ""
        image = f", docker image {self.image}" if self.image else ""
        return f"{engine}{model}{image}"


def _tool() -> str:
    try:
        return f"pytest-llmengine {version('pytest-llmengine')}"
    except PackageNotFoundError:
        return "pytest-llmengine from a source tree"
