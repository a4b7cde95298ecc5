"""The weights tier with live engines: the recording of a reference, and the check of a server."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.answers import DriftError, RoundKind
from pytest_llmengine.drift.check import judge, refusal
from pytest_llmengine.drift.live import (
    CHECK_EFFORT,
    RECORD_EFFORT,
    baseline_of,
    facts_of,
    measure,
)
from pytest_llmengine.drift.report import ALPHA
from pytest_llmengine.drift.weights import WeightsMeter, weights_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.baseline import Baseline
    from pytest_llmengine.drift.live import Effort
    from pytest_llmengine.drift.report import DriftReport
    from pytest_llmengine.drift.weights import TokenJudge
    from pytest_llmengine.targets import Session


@contextmanager
def loaded(session: Session) -> Iterator[TokenJudge]:
    """The reference of an engine of this process; it is released at the end of the block.

    Raises DriftError if it is an engine of another kind.
    """
    config = session.engine.config
    if config.backend != "vllm_local":
        raise DriftError(
            f"engine {session.name!r} cannot be a reference: it must be in-process vLLM "
            "(backend vllm_local) with the weights that the server should have"
        )
    from pytest_llmengine.drift.reference import VLLMReference  # noqa: PLC0415 - it imports vLLM

    reference = VLLMReference(config.model, config.options)
    try:
        yield reference
    finally:
        reference.close()


def record_reference(
    session: Session,
    reference: TokenJudge,
    *,
    effort: Effort = RECORD_EFFORT,
    tolerance: float | None = None,
    on_progress: OnProgress = silent,
) -> Baseline:
    """Record what the reference samples, and how well it explains it."""
    meter = WeightsMeter(reference, weights_probe(), on_progress)
    chance, rounds = effort.chance, effort.rounds[RoundKind.SCORED]
    sessions = [meter.session(rounds, chance) for _ in range(effort.sessions)]
    return baseline_of(facts_of(session), meter.probe, sessions, tolerance)


def check_by_reference(  # noqa: PLR0913 - the choices of the user
    session: Session,
    reference: TokenJudge,
    baseline: Baseline,
    *,
    alpha: float = ALPHA,
    effort: Effort = CHECK_EFFORT,
    on_progress: OnProgress = silent,
) -> DriftReport:
    """Measure a live server, let the reference judge its tokens, and compare with the baseline.

    Raises DriftError if the reference is not the one of the baseline.
    """
    refused = refusal(baseline, effort.sessions, effort.rounds, alpha)
    if refused is not None:
        return refused
    meter = WeightsMeter(reference, baseline.probe, on_progress)
    meter.require_same(baseline.sessions[0])
    facts = facts_of(session)
    measured = measure(session, baseline, effort, on_progress)
    candidate = [meter.judged(one) for one in measured]
    return judge(baseline, candidate, alpha=alpha, facts=facts)
