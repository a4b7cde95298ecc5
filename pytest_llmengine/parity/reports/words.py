"""Words and rows that the terminal, the Markdown and the HTML report share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.parity.pair import Status
from pytest_llmengine.parity.reports.as_json import numbers
from pytest_llmengine.reports.render import clipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmengine.parity.pair import Divergence, Pair, Place
    from pytest_llmengine.parity.report import Report
    from pytest_llmengine.parity.verdict import Criterion

KIND_HEADS = ("kind", "prompts", "same", "other", "one failed", "both failed", "logprob")
CRITERION_HEADS = ("what", "candidate", "noise", "allowed", "")
_LONGEST = 40  # of a value in a row; a hash is longer
CAUSE_HEADS = ("cause", "standing", "baseline", "candidate", "what was seen")


def title_of(report: Report) -> str:
    """What a report is headed with."""
    return f"Parity: {report.baseline.name} and {report.candidate.name}"


def summary_line(report: Report) -> str:
    """The verdict in one sentence."""
    return f"{report.verdict}: {report.reason}"


def side_lines(report: Report) -> list[str]:
    """Who was compared."""
    lines = [
        f"baseline   {report.baseline.describe()}",
        f"candidate  {report.candidate.describe()}",
    ]
    if throughput := report.throughput:
        lines.append(
            f"throughput candidate / baseline {throughput.ratio:.2f} "
            f"({min(throughput.ratios):.2f} to {max(throughput.ratios):.2f} in "
            f"{len(throughput.ratios)} rounds of {throughput.prompts} prompts)"
        )
    return lines


def kind_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row a kind, and one for all."""
    for kind, pairs in report.kinds.items():
        yield _kind_row(kind, pairs)
    yield _kind_row("all", report.pairs)


def noise_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row a variation of the baseline, in the columns of the kinds."""
    for variation in report.baseline.noise:
        yield _kind_row(variation.name, variation.pairs)


def criterion_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row a criterion."""
    for criterion in report.criteria:
        yield (criterion.name, *_shown(criterion), _holds(criterion))


def cause_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row a cause."""
    for cause in report.causes:
        values = (clipped(value, _LONGEST) for value in (cause.baseline, cause.candidate))
        yield (cause.name, cause.standing.value, *values, cause.note)


def unlike(report: Report) -> list[Pair]:
    """The pairs whose answers are not the same, in order."""
    return [pair for pair in report.pairs if pair.status is not Status.SAME]


def parting(divergence: Divergence) -> str:
    """Where two answers part, and how likely each side held the other's token."""
    where = f"{divergence.unit} {divergence.position}"
    return f"{where}: {_place(divergence.baseline)} / {_place(divergence.candidate)}"


def _place(place: Place) -> str:
    if place.token is None:
        return "the end"
    if place.logprob is None:
        return repr(place.token)
    rank = f"rank {place.rank}" if place.rank else "not among the likeliest"
    return f"{place.token!r} ({place.logprob:.4f}; {rank} there)"


def _kind_row(name: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    found = numbers(pairs)
    largest = found["logprob_difference"]["max"]
    counts = ("prompts", "same", "diverged", "failed_on_one_side", "failed_on_both")
    return (name, *(str(found[key]) for key in counts), _number(largest))


def _shown(criterion: Criterion) -> tuple[str, str, str]:
    if criterion.measured is None:
        return ("not measured", "", "")
    if criterion.of is None:
        return (_number(criterion.measured), _number(criterion.noise), _number(criterion.allowed))
    return (
        f"{criterion.measured:g} of {criterion.of}",
        f"{criterion.noise:.3g}",
        f"{criterion.allowed:g}",
    )


def _holds(criterion: Criterion) -> str:
    return {True: "within", False: "beyond", None: ""}[criterion.holds]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
