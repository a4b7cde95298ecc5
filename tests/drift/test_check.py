"""The check of a candidate: verdicts, error rates, what is found without statistics, and causes."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import partial
from math import exp, log
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.drift import DriftTier, DriftUnit, DriftVerdict, RoundKind, judge
from pytest_llmengine.drift.check import refusal
from pytest_llmengine.drift.exchangeability import LEVEL, self_test, unit_of
from pytest_llmengine.drift.live import baseline_of
from pytest_llmengine.drift.render import baseline_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.drift import Baseline, DriftAnswer, DriftReport

SAME, CHANGED, UNKNOWN = DriftVerdict


def shifted(answer: DriftAnswer, nats: float) -> dict[str, float]:
    """The log-probabilities of the answer, all lower by this."""
    return {token: value - nats for token, value in answer.top.items()}


def row(report: DriftReport, name: str) -> Any:
    """The row of a kind of evidence."""
    return next(row for row in report.rows if row.evidence == name)


def test_a_server_that_has_not_changed(quiet: Baseline, make_session: Callable[..., Any]) -> None:
    """It is the same, and the report says what would have been seen and what it cost."""
    report = judge(quiet, [make_session(prompt_tokens=5, completion_tokens=3)])

    assert (report.verdict, report.verdict.exit_status) == (SAME, 0)
    assert {row.adjusted for row in report.rows} == {1.0}
    assert row(report, "text").units == (20, 10)
    assert row(report, "log-probabilities").would_see == "0.0001 nats"
    assert row(report, "text").would_see == "1 prompt, or 31% at random"
    assert (report.requests, report.tokens) == (18, (5, 3))


def test_each_kind_of_evidence_counts_alone(
    quiet: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any]
) -> None:
    """One prompt that is answered otherwise in one field is found in that row, and no other."""
    changes = {
        "log-probabilities": edit(logprobs=None, top=lambda a: shifted(a, 0.001)),
        "text": edit(text="gray", tokens=("gray",), only=lambda a: a.prompt == 2),
        "finish reason": edit(finish_reason="stop", only=lambda a: a.prompt == 2),
        "usage": edit(prompt_tokens=9, only=lambda a: a.prompt == 2),
        "long text": edit(text="x", tokens=("x", "", ""), only=lambda a: a.prompt == 4),
        "sampled text": edit(text="x", tokens=("x", "", ""), only=lambda a: a.prompt == 5),
    }
    for name, change in changes.items():
        report = judge(quiet, [make_session(edit=change)])
        found = [row.evidence for row in report.rows if row.is_changed(0.01)]
        assert (report.verdict, found) == (CHANGED, [name])
        assert report.reason.startswith(f"{name} (adjusted p ")
        assert row(report, name).p_value < 1e-4


def test_rows_that_differ_share_the_false_alarm_rate(
    quiet: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any]
) -> None:
    """A p-value that is significant alone is not if another row differs as well."""

    def in_four_rounds(**fields: Any) -> DriftReport:
        some = make_session({RoundKind.FIRST: 4}, edit(**fields, only=lambda a: a.prompt == 2))
        others = make_session({RoundKind.FIRST: 6})
        return judge(quiet, [replace(others, rounds=some.rounds + others.rounds)], power=False)

    one = in_four_rounds(finish_reason="stop")
    two = in_four_rounds(finish_reason="stop", prompt_tokens=9)

    assert row(one, "finish reason").p_value == row(two, "finish reason").p_value
    assert 0.005 < row(two, "usage").p_value < 0.01
    assert (one.verdict, two.verdict) == (CHANGED, SAME)


def test_false_alarms_are_as_rare_as_promised(
    make_session: Callable[..., Any], make_baseline: Callable[..., Any]
) -> None:
    """Noisy servers that have not changed: few alarms, with two rows that differ in each check."""
    alarms = 0
    for run in range(40):
        noise = partial(random.Random(run).gauss, 0, 0.02)
        rounds = {RoundKind.FIRST: 4}
        baseline = make_baseline(make_session(rounds, noise=noise) for _ in range(2))
        candidate = make_session({RoundKind.FIRST: 5}, noise=noise)
        report = judge(baseline, [candidate], alpha=0.2, power=False)
        assert row(report, "log-probabilities").distance is not None
        alarms += report.verdict is CHANGED
    assert 1 <= alarms <= 16  # at a rate of 20%, more are seen with a chance of 0.001


def test_a_noisy_server_that_has_changed(
    noisy: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any]
) -> None:
    """A shift as large as the noise is found, and the smallest one that would be is stated."""
    noise = partial(random.Random(2).gauss, 0, 0.01)
    shift = edit(logprobs=None, top=lambda a: shifted(a, 0.02))
    rounds = {RoundKind.FIRST: 5}

    changed = judge(noisy, [make_session(rounds, shift, noise)])
    same = judge(noisy, [make_session(rounds, noise=noise)], power=False)

    found = row(changed, "log-probabilities")
    assert (changed.verdict, same.verdict) == (CHANGED, SAME)
    assert found.adjusted < 0.001
    size = re.fullmatch(r"(0\.\d+) nats", found.would_see)
    assert 0.001 < float(size[1]) < 0.02
    assert re.fullmatch(r"\d+\.\d% at random", row(changed, "text").would_see)


def test_a_tolerance_counts_small_differences_as_none(
    quiet: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any]
) -> None:
    """The same difference is a change without it, and beyond a smaller one."""
    change = edit(logprobs=None, top=lambda a: shifted(a, 0.01))
    candidate = [make_session(edit=change)]

    verdicts = [
        judge(replace(quiet, tolerance=tolerance), candidate, power=False).verdict
        for tolerance in (None, 0.01, 0.2)
    ]

    assert verdicts == [CHANGED, CHANGED, SAME]


def test_the_unit_is_a_session_if_sessions_differ(
    make_session: Callable[..., Any], make_baseline: Callable[..., Any]
) -> None:
    """A check that cannot tell says how many sessions can, before it asks anything."""
    rounds = {RoundKind.FIRST: 5}
    sessions = [make_session(rounds, noise=lambda n=n: n * 0.01) for n in range(4)]
    p_value = self_test(sessions)
    assert unit_of(p_value) is DriftUnit.SESSION
    assert unit_of(self_test(sessions[:1])) is DriftUnit.SESSION
    assert unit_of(self_test([make_session(rounds)] * 4)) is DriftUnit.ROUND

    next_night = [make_session(rounds, noise=lambda: 0.04)]
    by_round = make_baseline(sessions, self_test=p_value)
    by_session = replace(by_round, unit=DriftUnit.SESSION)
    refused = refusal(by_session, 1, rounds)

    assert judge(by_session, next_night).verdict is UNKNOWN
    assert {row.note for row in judge(by_session, next_night).rows} == {"too few to show a change"}
    assert refused is not None
    assert "record with --sessions 399; or check with --sessions 8" in refused.reason
    assert refusal(by_round, 1, rounds) is None
    many = make_baseline(sessions * 5, unit=DriftUnit.SESSION)
    assert judge(many, sessions[1:], power=False).verdict is SAME
    assert judge(many, next_night * 3, power=False).verdict is CHANGED


def test_differences_between_sessions_are_no_alarm(
    make_session: Callable[..., Any], make_baseline: Callable[..., Any]
) -> None:
    """A session as far away as those of the baseline is the same, although its rounds differ."""
    rounds = {RoundKind.FIRST: 5}
    baseline = make_baseline(make_session(rounds, noise=lambda n=n: n * 0.01) for n in range(4))

    near, far = (
        judge(baseline, [make_session(rounds, noise=lambda n=n: n * 0.01)], power=False)
        for n in (4, 20)
    )

    assert (near.verdict, far.verdict) == (SAME, CHANGED)
    assert near.reason.endswith("; log-probabilities differs no further than the baseline itself")
    assert row(near, "log-probabilities").distance < row(near, "log-probabilities").tolerance
    assert row(near, "log-probabilities").adjusted < 0.01


def test_answers_of_batches_in_other_shares_are_no_alarm(
    quiet: Baseline,
    make_session: Callable[..., Any],
    batched: Callable[..., Any],
    edit: Callable[..., Any],
) -> None:
    """If answers depend on what is computed together, other answers than both are a change."""
    in_batch, other = (
        edit(logprobs=None, top=lambda a, size=size: shifted(a, size)) for size in (0.03, 0.2)
    )
    rounds = {RoundKind.FIRST: 8}
    sessions = [batched(make_session(rounds), in_batch) for _ in range(4)]
    baseline = baseline_of(quiet.facts, quiet.probe, sessions)

    same, changed = (
        judge(baseline, [make_session(rounds, e)], power=False) for e in (in_batch, other)
    )

    assert (baseline.self_test, baseline.load_dependence < LEVEL) == (1, True)
    assert (same.verdict, changed.verdict) == (SAME, CHANGED)
    assert row(same, "log-probabilities").adjusted < 0.01
    assert "answers depend on the number of requests in flight" in "".join(
        baseline_lines(baseline, "")
    )


def test_a_failed_session_cannot_tell(quiet: Baseline, make_session: Callable[..., Any]) -> None:
    """The reason is the error, and no row is tested."""
    report = judge(quiet, [make_session({RoundKind.FIRST: 3}, error="a request failed")])

    assert (report.verdict, report.verdict.exit_status) == (UNKNOWN, 2)
    assert report.reason == "a request failed"
    assert {row.note for row in report.rows} == {"not asked"}


CONTRADICTIONS = {
    "the text is not what its tokens say": {"text": "blue", "only": lambda a: a.prompt == 1},
    "the text is empty although tokens are counted": {"text": "", "tokens": None},
    "the usage is not the number of tokens": {"completion_tokens": 7},
    "two log-probabilities of one token": {"logprobs": (-0.5,)},
    "log-probabilities: no longer shown": {"tokens": None, "logprobs": None, "top": None},
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_found_without_statistics(
    quiet: Baseline,
    make_baseline: Callable[..., Any],
    make_session: Callable[..., Any],
    edit: Callable[..., Any],
    name: str,
) -> None:
    """It changes the verdict, with its prompt, unless the baseline has it as well."""
    change = edit(**CONTRADICTIONS[name])
    candidate = [make_session({RoundKind.FIRST: 10}, change)]
    alike = make_baseline(make_session(dict.fromkeys(RoundKind, 5), change) for _ in range(4))

    report = judge(quiet, candidate)

    assert report.verdict is CHANGED
    assert name in report.reason
    assert any(found.name == name for found in report.findings)
    assert judge(alike, candidate).verdict is SAME


def test_one_wrong_text_among_a_hundred_is_found(
    quiet: Baseline, make_session: Callable[..., Any]
) -> None:
    """A gateway that cuts one answer: too rare for any test, but its tokens say more."""
    session = make_session()
    first, *others = session.rounds
    cut = replace(first.answers[0], text="re")
    rounds = (replace(first, answers=(cut, *first.answers[1:])), *others)

    report = judge(quiet, [replace(session, rounds=rounds)])

    (finding,) = report.findings
    assert report.verdict is CHANGED
    assert finding.prompt == "words 0"
    assert finding.detail == "the text is 're', and its tokens are 'red'"
    assert [change.name for change in report.named] == ["truncated text"]


def test_what_the_server_states_counts(quiet: Baseline, make_session: Callable[..., Any]) -> None:
    """A shorter context does not show in short answers; another program has other facts."""
    shorter = replace(quiet.facts, context=512)

    report = judge(quiet, [make_session()], facts=shorter)
    other = judge(quiet, [make_session()], facts=replace(shorter, server="Ollama"))

    assert (report.verdict, report.reason) == (CHANGED, "another context")
    assert other.verdict is SAME


def scaled(answer: DriftAnswer) -> dict[str, float]:
    """The log-probabilities of the answer at half the temperature."""
    norm = log(sum(exp(2 * value) for value in answer.top.values()))
    return {token: 2 * value - norm for token, value in answer.top.items()}


CAUSES = {
    "cached answers": {"repeated": True, "text": "x"},
    "system prompt or chat template": {"prompt_tokens": 20},
    "another maximum of tokens": {"completion_tokens": 2, "only": lambda a: a.prompt > 3},
    "sampling values that were not asked for": {
        "text": "blue",
        "tokens": ("blue",),
        "logprobs": lambda a: (a.top["blue"],),
        "only": lambda a: a.prompt == 0,
    },
    "temperature": {"top": scaled, "logprobs": None},
    "penalty": {"text": "xyz", "tokens": ("x", "y", "z"), "only": lambda a: a.prompt == 4},
    "seed or sampling method": {
        "text": "xyz", "tokens": ("x", "y", "z"), "only": lambda a: a.prompt == 5,
    },
    "weights, quantisation or kernels": {
        "top": lambda a: {t: v + 0.01 * len(t) for t, v in a.top.items()}, "logprobs": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_the_likely_cause_is_named(
    quiet: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any], cause: str
) -> None:
    """Each cause is named by what only it does, and alone."""
    report = judge(quiet, [make_session(edit=edit(**CAUSES[cause]))])

    assert report.verdict is CHANGED
    assert [change.name for change in report.named] == [cause]
    assert report.named[0].seen


def test_text_alone_does_not_tell_a_penalty_from_other_weights(
    quiet: Baseline, make_session: Callable[..., Any], edit: Callable[..., Any]
) -> None:
    """Log-probabilities of the first token would."""
    by_text = replace(quiet, probe=replace(quiet.probe, tier=DriftTier.TEXT))
    report = judge(by_text, [make_session(edit=edit(**CAUSES["penalty"]))])

    assert [change.name for change in report.named] == ["penalty, weights or kernels"]
