"""A live server: its facts, the recording of a baseline, and the measurement of a candidate."""

from __future__ import annotations

import random
from collections.abc import Mapping  # noqa: TC003 - a field of a dataclass
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import httpx

from llmengine.types.secrets import secret_address
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.answers import DriftError, RoundKind
from pytest_llmengine.drift.baseline import Baseline, DriftFacts
from pytest_llmengine.drift.check import judge, refusal
from pytest_llmengine.drift.exchangeability import load_dependence, self_test, unit_of
from pytest_llmengine.drift.measure import Meter
from pytest_llmengine.drift.report import ALPHA
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.answers import DriftSession
    from pytest_llmengine.drift.baseline import Probe
    from pytest_llmengine.drift.report import DriftReport
    from pytest_llmengine.targets import Session


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: sessions, begun evenly over ``spread`` seconds, with these rounds.

    ``seed`` decides the order and the load of all requests.
    """

    sessions: int
    rounds: Mapping[RoundKind, int]
    spread: float = 0.0
    seed: int | None = None

    @property
    def chance(self) -> random.Random:
        """The source of chance of a measurement."""
        return random.Random(self.seed)  # noqa: S311  # nosec B311 - not for secrets


_LONGER_ROUNDS = 4  # of a check; with 20 of a baseline they suffice for ten kinds of evidence


def checked_rounds(rounds: int) -> dict[RoundKind, int]:
    """How many rounds of each kind a session of a check has, if it has so many over one token."""
    longer = min(rounds, _LONGER_ROUNDS)
    shorter = {RoundKind.LONG: longer, RoundKind.SAMPLED: longer}
    return {RoundKind.FIRST: rounds, **shorter, RoundKind.SCORED: rounds}


RECORD_EFFORT = Effort(4, dict.fromkeys(RoundKind, 5))
CHECK_EFFORT = Effort(1, checked_rounds(10))


def facts_of(session: Session, url: str | None = None) -> DriftFacts:
    """The facts that a live server states; ``url`` is the address that the user gave.

    An address that holds a key is left out.
    """
    provenance, seen = session.provenance, session.engine.fingerprint()
    return DriftFacts(
        name=session.name,
        backend=session.engine.backend.name,
        url=url if url and secret_address(url) == url else None,
        server=provenance.engine,
        version=provenance.version,
        model=provenance.model,
        weights=provenance.model_digest or (PurePath(seen.root).name if seen.root else None),
        context=seen.max_model_len or _context(session),
    )


_TIMEOUT = 20.0  # seconds


def _context(session: Session) -> int | None:
    """The context per request of llama.cpp's server, which only ``/props`` states."""
    engine = session.engine
    if session.provenance.engine != "llama.cpp" or not engine.root_url:
        return None
    try:
        reply = httpx.get(
            f"{engine.root_url}/props",
            headers=engine.backend.address.headers,
            timeout=_TIMEOUT,
            trust_env=False,
        )
        context: Any = reply.raise_for_status().json()["default_generation_settings"]["n_ctx"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None
    return context if isinstance(context, int) else None


def record(  # noqa: PLR0913 - the choices of the user
    session: Session,
    probe: Probe,
    *,
    url: str | None = None,
    effort: Effort = RECORD_EFFORT,
    tolerance: float | None = None,
    search_requests: int = 0,
    on_progress: OnProgress = silent,
) -> Baseline:
    """Record the answers to a probe as a baseline; ``search_requests`` is what its choice cost.

    Raises DriftError if a request failed twice.
    """
    facts = facts_of(session, url)
    meter = Meter(session.engine, probe, effort.chance, on_progress)
    sessions = meter.sessions(effort.sessions, effort.rounds, effort.spread)
    if error := sessions[-1].error:
        raise DriftError(f"the baseline was not recorded: {error}")
    return baseline_of(facts, probe, sessions, tolerance, search_requests)


def baseline_of(
    facts: DriftFacts,
    probe: Probe,
    sessions: Sequence[DriftSession],
    tolerance: float | None = None,
    search_requests: int = 0,
) -> Baseline:
    """The baseline of measured sessions, with the results of their self-tests."""
    p_value = self_test(sessions)
    return Baseline(
        facts=facts,
        probe=probe,
        sessions=tuple(sessions),
        unit=unit_of(p_value),
        self_test=p_value,
        load_dependence=load_dependence(sessions),
        tolerance=tolerance,
        search_requests=search_requests,
        date=datetime.now(UTC).date().isoformat(),
        tool_version=tool_version(),
    )


def measure(
    session: Session,
    baseline: Baseline,
    effort: Effort = CHECK_EFFORT,
    on_progress: OnProgress = silent,
) -> list[DriftSession]:
    """The sessions of a candidate; the last one has an error if a request failed twice."""
    meter = Meter(session.engine, baseline.probe, effort.chance, on_progress)
    return meter.sessions(effort.sessions, effort.rounds, effort.spread)


def check(
    session: Session,
    baseline: Baseline,
    *,
    alpha: float = ALPHA,
    effort: Effort = CHECK_EFFORT,
    on_progress: OnProgress = silent,
) -> DriftReport:
    """Measure a live server and compare it with a baseline.

    Nothing is asked if a check of this size could not tell.
    """
    refused = refusal(baseline, effort.sessions, effort.rounds, alpha)
    if refused is not None:
        return refused
    facts = facts_of(session)
    candidate = measure(session, baseline, effort, on_progress)
    return judge(baseline, candidate, alpha=alpha, facts=facts)
