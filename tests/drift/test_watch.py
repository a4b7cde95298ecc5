"""Repeated looks: one false-alarm rate for all, alarms that stay, and looks that do not count."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema
import pytest
import report_schema  # in tools/

from pytest_llmengine.drift import DriftUnit, DriftVerdict, RoundKind, judge
from pytest_llmengine.drift.exchangeability import load_dependence
from pytest_llmengine.drift.render import drift_page
from pytest_llmengine.drift.watch import LookScores, next_look, refusal, report_of
from pytest_llmengine.drift.watch_page import to_dict, watch_page
from pytest_llmengine.reports.page import to_html, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_llmengine.drift import Baseline, DriftAnswer, DriftSession
    from pytest_llmengine.drift.journal import WatchLook
    from pytest_llmengine.drift.watch import WatchReport

SAME, CHANGED, UNKNOWN = DriftVerdict
ALPHA = 0.01
ROUNDS = {RoundKind.FIRST: 3}


def looked(scores: LookScores, sessions: Iterable[DriftSession]) -> WatchReport:
    """The report after a look per session."""
    looks: list[WatchLook] = []
    for session in sessions:
        looks.append(next_look(scores, ALPHA, looks, session))
    return report_of(scores, ALPHA, looks)


@pytest.fixture
def scores(
    make_session: Callable[..., DriftSession], make_baseline: Callable[..., Baseline]
) -> LookScores:
    """What looks at a server that always answers the same are compared with."""
    return LookScores(make_baseline([make_session(ROUNDS)] * 20))


def test_a_server_that_stays_the_same(
    scores: LookScores, make_session: Callable[..., DriftSession]
) -> None:
    """The report says what it would have found, and when."""
    report = looked(scores, [make_session(ROUNDS)] * 30)
    assert report.verdict is SAME
    assert report.reason.startswith("no evidence of a change in 30 looks: the largest e-value is 1")
    assert {row.looks_to_alarm for row in report.rows} <= {2, 3, 4}
    assert {row.smallest_change for row in report.rows} == {0.0}
    assert len(report.rows) > 1
    assert report.limit == len(report.rows) / ALPHA  # for any of them ever to alarm


@pytest.mark.parametrize("quiet", [0, 30])
def test_a_change_is_found_and_stays(
    scores: LookScores, make_session: Callable[..., DriftSession], edit: Callable, quiet: int
) -> None:
    """Within as many looks as the report said, and also after the server has changed back."""
    before = [make_session(ROUNDS)] * quiet
    promised = max(row.looks_to_alarm or 0 for row in looked(scores, before).rows)
    changed = [make_session(ROUNDS, edit(text="blue"))] * promised
    report = looked(scores, [*before, *changed])
    assert report.verdict is CHANGED
    assert "(text: the e-value reached" in report.reason
    assert [look.changed for look in report.looks[:quiet]] == [False] * quiet
    after = looked(scores, [*before, *changed, *([make_session(ROUNDS)] * 5)])
    assert (after.verdict, after.looks[-1].changed) == (CHANGED, True)


def test_noise_raises_no_alarm_and_a_shift_does(
    make_session: Callable[..., DriftSession], make_baseline: Callable[..., Baseline]
) -> None:
    """Log-probabilities vary in each answer; then all of them are lower by 0.05 nats."""
    chance = random.Random(5)

    def sessions(count: int, shift: float = 0.0) -> list[DriftSession]:
        noises = [lambda: chance.gauss(shift, 0.01)] * count
        return [make_session(ROUNDS, noise=noise) for noise in noises]

    scores = LookScores(make_baseline(sessions(20)))
    before = sessions(20)
    assert looked(scores, before).verdict is SAME
    assert looked(scores, [*before, *sessions(4, -0.05)]).verdict is CHANGED


def test_a_look_that_failed_does_not_count(
    scores: LookScores, make_session: Callable[..., DriftSession]
) -> None:
    """It is written with its error, and the next look is as if it had not been."""
    failed = make_session({}, error="a request failed: 503")
    report = looked(scores, [make_session(ROUNDS), failed])
    assert (report.verdict, report.reason) == (
        UNKNOWN,
        "this look does not count: a request failed: 503",
    )
    both = looked(scores, [make_session(ROUNDS), failed, make_session(ROUNDS)])
    assert both.verdict is SAME
    assert [row.scores for row in both.rows] == [
        row.scores for row in looked(scores, [make_session(ROUNDS)] * 2).rows
    ]


def test_an_alarm_needs_no_statistics_for_a_finding(
    scores: LookScores, make_session: Callable[..., DriftSession]
) -> None:
    """A contradiction is an alarm at once, and stays one."""
    look = next_look(scores, ALPHA, [], make_session(ROUNDS), ["another context: 8"])
    later = next_look(scores, ALPHA, [look], make_session(ROUNDS))
    report = report_of(scores, ALPHA, [look, later])
    assert (report.verdict, later.changed) == (CHANGED, True)
    assert report.reason.endswith("found: another context: 8")


def test_an_alarm_of_an_earlier_version_stays(
    scores: LookScores, make_session: Callable[..., DriftSession]
) -> None:
    """The journal says that a look had an alarm, although its scores have none any more."""
    look = replace(next_look(scores, ALPHA, [], make_session(ROUNDS)), changed=True)
    report = report_of(scores, ALPHA, [look])
    assert report.verdict is CHANGED
    assert "as the look of" in report.reason


@pytest.mark.parametrize(
    ("unit", "sessions", "tolerance", "needed"),
    [
        (DriftUnit.ROUND, 19, None, "20"),
        (DriftUnit.ROUND, 20, None, None),
        (DriftUnit.SESSION, 39, None, "40"),
        (DriftUnit.SESSION, 20, 0.5, None),
    ],
)
def test_a_baseline_of_too_few_sessions_is_refused(
    make_session: Callable[..., DriftSession],
    make_baseline: Callable[..., Baseline],
    unit: DriftUnit,
    sessions: int,
    tolerance: float | None,
    needed: str | None,
) -> None:
    """The reason says what to record."""
    baseline = make_baseline([make_session(ROUNDS)] * sessions, unit=unit, tolerance=tolerance)
    reason = refusal(baseline)
    assert reason.endswith(f"--sessions {needed} --rounds 3 --spread 8h") if needed else not reason


def test_looks_are_whole_sessions_if_answers_depend_on_the_load(
    make_session: Callable[..., DriftSession],
    make_baseline: Callable[..., Baseline],
    batched: Callable[..., DriftSession],
    edit: Callable,
) -> None:
    """A server that is busier every night raises no alarm; other answers do."""

    def shift(size: float) -> Callable:
        def shifted(answer: DriftAnswer) -> dict[str, float]:
            return {token: value - size for token, value in (answer.top or {}).items()}

        return edit(logprobs=None, top=shifted)

    rounds = {RoundKind.FIRST: 4}
    sessions = [batched(make_session(rounds), shift(0.03)) for _ in range(40)]
    scores = LookScores(make_baseline(sessions, load_dependence=load_dependence(sessions[:4])))
    busy, other = (make_session(rounds, shift(size)) for size in (0.03, 0.1))

    assert looked(scores, [busy] * 20).verdict is SAME
    assert looked(scores, [other] * 20).verdict is CHANGED
    few = make_baseline(sessions[1:])
    assert not refusal(few)
    reason = refusal(replace(few, load_dependence=scores.baseline.load_dependence))
    assert "needs 40 since its answers depend on the number of requests in flight" in reason


def test_the_reports(
    scores: LookScores, make_session: Callable[..., DriftSession], edit: Callable
) -> None:
    """All forms show the alarm; the JSON form has the published schema."""
    sessions = [make_session(ROUNDS), make_session({}, error="<503>")]
    sessions += [make_session(ROUNDS, edit(text="blue"))] * 3
    report = replace(looked(scores, sessions), note="odd")
    row = to_dict(report)
    jsonschema.validate(row, json.loads(report_schema.DRIFT_SCHEMA.read_text("utf-8")))
    assert (row["verdict"], row["looks"][1]["error"]) == ("changed", "<503>")
    page = watch_page(report)
    html, markdown = to_html(page), to_markdown(page)
    assert html.count("<svg viewBox") == 2
    assert "does not count: &lt;503&gt;" in html
    assert "does not count: \\<503\\>" in markdown


def test_the_report_of_a_check(
    quiet: Baseline, make_session: Callable[..., DriftSession], edit: Callable
) -> None:
    """Its JSON form has the published schema too, and the page shows the distances."""
    report = judge(quiet, [make_session(edit=edit(text="blue"))], power=False)
    schema = json.loads(report_schema.DRIFT_SCHEMA.read_text("utf-8"))
    jsonschema.validate(json.loads(report.to_json()), schema)
    html = to_html(drift_page(report))
    assert "Distances from the baseline: text" in html
    assert html.count("<circle") == 30


def test_the_published_schema_is_fresh() -> None:
    """``python tools/report_schema.py`` writes it."""
    assert report_schema.DRIFT_SCHEMA.read_text("utf-8") == report_schema.drift_schema_text()
