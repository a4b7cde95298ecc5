"""The report of a comparison for a terminal, as JSON and as Markdown, and the rows that they share.

``docs/parity.md`` describes the fields of the JSON report. The terminal form fits 80 columns and is
readable without colour.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmengine.parity.causes import Standing
from pytest_llmengine.parity.pairs import Status
from pytest_llmengine.parity.verdict import ParityVerdict, differences, quantile, tool_call_f1
from pytest_llmengine.reports.render import clipped, escape, printable, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from pytest_llmengine.parity.pairs import Divergence, DivergingToken, Pair
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.parity.verdict import Criterion, ParityReport


KIND_HEADS = ("kind", "prompts", "same", "other", "one failed", "both failed", "logprob")
CRITERION_HEADS = ("what", "candidate", "noise", "allowed", "")
_LONGEST = 40  # characters of a value in a row; a hash is longer
CAUSE_HEADS = ("cause", "standing", "baseline", "candidate", "what was seen")


def title_of(report: ParityReport) -> str:
    """The title of a report."""
    return f"Parity: {report.baseline.name} and {report.candidate.name}"


def summary_line(report: ParityReport) -> str:
    """The verdict in one sentence."""
    return f"{report.verdict}: {report.reason}"


def side_lines(report: ParityReport) -> list[str]:
    """The lines that describe the two sides and their throughput."""
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


def kind_rows(report: ParityReport) -> Iterator[tuple[str, ...]]:
    """One row per kind, and one row for all prompts."""
    for kind, pairs in report.kinds.items():
        yield _kind_row(kind, pairs)
    yield _kind_row("all", report.pairs)


def noise_rows(report: ParityReport) -> Iterator[tuple[str, ...]]:
    """One row per variation of the baseline, with the columns of `kind_rows`."""
    for variation in report.baseline.noise:
        yield _kind_row(variation.name, variation.pairs)


def criterion_rows(report: ParityReport) -> Iterator[tuple[str, ...]]:
    """One row per criterion."""
    for criterion in report.criteria:
        yield (criterion.name, *_shown(criterion), _holds(criterion))


def cause_rows(report: ParityReport) -> Iterator[tuple[str, ...]]:
    """One row per cause."""
    for cause in report.causes:
        values = (clipped(value, _LONGEST) for value in (cause.baseline, cause.candidate))
        yield (cause.name, cause.standing.value, *values, cause.note)


def unlike(report: ParityReport) -> list[Pair]:
    """The pairs whose answers differ or failed, in order."""
    return [pair for pair in report.pairs if pair.status is not Status.SAME]


def parting(divergence: Divergence) -> str:
    """Where two answers diverge, and the rank of each token on the other side."""
    where = f"{divergence.unit} {divergence.position}"
    return f"{where}: {_place(divergence.baseline)} / {_place(divergence.candidate)}"


def _place(place: DivergingToken) -> str:
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


SCHEMA_VERSION = 1


def to_object(report: ParityReport) -> dict[str, Any]:
    """The report as a JSON object; its version is raised when a field is renamed or removed."""
    throughput = report.throughput
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.verdict.value,
        "reason": report.reason,
        "margin": report.margin,
        "baseline": _side(report.baseline),
        "candidate": _side(report.candidate),
        "causes": [asdict(cause) for cause in report.causes],
        "criteria": [asdict(c) | {"holds": c.holds} for c in report.criteria],
        "summary": numbers(report.pairs),
        "kinds": {kind: numbers(pairs) for kind, pairs in report.kinds.items()},
        "noise": [
            {"name": v.name, "batch": v.batch} | numbers(v.pairs) for v in report.baseline.noise
        ],
        "throughput": throughput.to_dict() if throughput is not None else None,
        "pairs": [_pair_as_json(report, pair) for pair in report.pairs],
    }


def to_json(report: ParityReport) -> str:
    """The report as JSON text, ready to be written to a file."""
    return json.dumps(to_object(report), indent=2, ensure_ascii=False) + "\n"


def numbers(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The counts and measured values over some pairs."""
    values = differences(pairs)
    return {
        "prompts": len(pairs),
        "compared": sum(p.compared for p in pairs),
        "same": sum(p.status is Status.SAME for p in pairs),
        "same_text": sum(p.same_text for p in pairs),
        "diverged": sum(p.status is Status.DIVERGED for p in pairs),
        "within_top": sum(p.within_top for p in pairs),
        "failed_on_one_side": sum(p.status is Status.ONE_FAILED for p in pairs),
        "failed_on_both": sum(p.status is Status.BOTH_FAILED for p in pairs),
        "fits_schema": [sum(bool(p.valid[side]) for p in pairs) for side in (0, 1)],
        "asked_for_schema": sum(p.valid[0] is not None for p in pairs),
        "tool_call_f1": tool_call_f1(pairs),
        "logprob_difference": {
            name: quantile(values, share)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "saved_in": side.source,
        "date": side.date,
        "tool_version": side.tool_version,
        "facts": side.facts.to_dict(),
        "batch": side.batch,
        "prompts": {"count": len(side.prompts), "digest": side.digest},
    }


def _pair_as_json(report: ParityReport, pair: Pair) -> dict[str, Any]:
    """A pair as JSON; it includes both answers if they are not the same."""
    row = pair.to_dict()
    if pair.status is Status.SAME:
        return row
    answers = report.answers(pair.id)
    return row | {
        role: {"error": answer.error} if answer.error else {"text": answer.text}
        for role, answer in zip(("baseline", "candidate"), answers, strict=True)
    }


_STYLES = {
    ParityVerdict.EQUAL: "bold green",
    ParityVerdict.DIVERGES: "bold red",
    ParityVerdict.NONE: "bold magenta",
    Standing.EQUAL: "green",
    Standing.PINNED: "green",
    Standing.UNKNOWN: "yellow",
    Standing.ALLOWED: "yellow",
    Standing.MISMATCH: "bold red",
}
_MOST = 10  # the number of diverging prompts that are printed
_LONGEST_LINE = 240


def print_report(report: ParityReport, console: Console) -> None:
    """Print sides, causes, numbers, the first prompts with different answers, and the verdict."""
    console.print(render(report), soft_wrap=False)


def render(report: ParityReport) -> Group:
    """The report as a rich renderable."""
    parts: list[RenderableType] = [Text(printable(line)) for line in side_lines(report)]
    parts += [Text(), *_causes(report)]
    if report.pairs:
        rows = [*kind_rows(report), *((f"noise: {row[0]}", *row[1:]) for row in noise_rows(report))]
        parts += [Text(), _table(KIND_HEADS, rows)]
        parts += [Text(), _table(CRITERION_HEADS, criterion_rows(report))]
    parts += _unlike(report)
    return Group(*parts, Text(), Text(summary_line(report), style=_STYLES[report.verdict]))


def _causes(report: ParityReport) -> list[RenderableType]:
    """One line per cause; its note follows unless the cause is equal or pinned."""
    lines: list[RenderableType] = []
    for name, standing, ours, theirs, note in cause_rows(report):
        style = _STYLES[Standing(standing)]
        values = f"{ours} / {theirs}" if ours != theirs else ours
        lines.append(Text.assemble(name.ljust(19), (standing.ljust(10), style), printable(values)))
        if note and Standing(standing) not in (Standing.EQUAL, Standing.PINNED):
            lines.append(Padding(Text(printable(note), style="dim"), (0, 0, 0, 29)))
    return lines


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=not place)
    for cells in rows:
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _unlike(report: ParityReport) -> list[RenderableType]:
    found = unlike(report)
    lines: list[RenderableType] = []
    for pair in found[:_MOST]:
        lines += [Text(), *_pair(report, pair)]
    if len(found) > _MOST:
        more = f"... and {len(found) - _MOST} more; --report FILE has them all"
        lines += [Text(), Text(more, style="dim")]
    return lines


def _pair(report: ParityReport, pair: Pair) -> list[RenderableType]:
    where = f"  {printable(parting(pair.divergence))}" if pair.divergence is not None else ""
    lines: list[RenderableType] = [Text.assemble((pair.id, "bold"), f"  {pair.status}{where}")]
    for mark, answer in zip("-+", report.answers(pair.id), strict=True):
        said = answer.error if pair.status is not Status.DIVERGED else answer.text
        lines.append(Text(f"  {mark} {clipped(printable(said or 'answered'), _LONGEST_LINE)}"))
    return lines


def to_markdown(report: ParityReport) -> str:
    """The report as GitHub-flavoured Markdown; texts from models are escaped."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: ParityReport) -> Iterator[str]:
    yield f"# {escape(title_of(report))}"
    yield f"**{escape(summary_line(report))}**"
    yield "  \n".join(escape(line) for line in side_lines(report))
    yield "## What may change answers"
    yield _markdown_table(CAUSE_HEADS, cause_rows(report))
    if not report.pairs:
        return
    yield "## Held against the noise floor"
    yield _markdown_table(CRITERION_HEADS, criterion_rows(report))
    yield "## By kind"
    yield _markdown_table(KIND_HEADS, kind_rows(report))
    yield "## The baseline against itself"
    yield _markdown_table(("variation", *KIND_HEADS[1:]), noise_rows(report))
    if found := unlike(report):
        yield f"## Not the same ({len(found)})"
        yield "\n".join(_item(report, pair) for pair in found)


def _item(report: ParityReport, pair: Pair) -> str:
    where = f", {escape(parting(pair.divergence))}" if pair.divergence is not None else ""
    lines = [f"- `{pair.id}` {pair.status}{where}"]
    for role, answer in zip(("baseline", "candidate"), report.answers(pair.id), strict=True):
        lines.append(f"  - {role}: {escape(answer.error or answer.text)}")
    return "\n".join(lines)


def _markdown_table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    listed = list(heads)
    lines = [row(listed), row("---" for _ in listed)]
    return "\n".join([*lines, *(row(escape(cell) for cell in cells) for cells in rows)])
