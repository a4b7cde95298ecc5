"""The report of a comparison as a page, printed to a terminal or written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from pytest_llmengine.parity.causes import Standing
from pytest_llmengine.parity.json import summary_of, to_json
from pytest_llmengine.parity.pairs import Status, first_difference
from pytest_llmengine.parity.plot import plot_of
from pytest_llmengine.parity.significance import Unit
from pytest_llmengine.parity.verdict import ParityVerdict
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.page import Page, Table, clipped, escape, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from markupsafe import Markup
    from rich.console import Console, RenderableType

    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.pairs import DivergingToken, Pair
    from pytest_llmengine.parity.verdict import Criterion, ParityReport
    from pytest_llmengine.reports.page import Block

_MOST_PAIRS = 10  # the number of different pairs that a terminal shows


def print_report(report: ParityReport, console: Console) -> None:
    """Print sides, causes, numbers, the first prompts with different answers, and the verdict."""
    pages.print_page(_brief_page(report), console)


def write_report(report: ParityReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed.

    Raises ConfigError if the suffix is unknown or the folder does not exist.
    """
    pages.write_report(path, lambda: parity_page(report), lambda: to_json(report))


def parity_page(report: ParityReport) -> Page:
    """The report as a page."""
    blocks: list[Block] = [_CauseTable(report.causes, title="What may change answers")]
    if report.pairs:
        kinds = _kind_rows(report)
        noise = _noise_rows(report)
        blocks += [
            _criterion_table(report, title="Tests"),
            _kind_table(("kind", *_KIND_HEADS), kinds, title="By kind"),
        ]
        if noise:
            title = "The baseline against its first pass"
            blocks.append(_kind_table(("pass", *_KIND_HEADS), noise, title=title))
    if report.contradictions:
        blocks.append(_contradiction_table(report, title="Answers that contradict themselves"))
    if (plot := plot_of(report)) is not None:
        blocks.append(plot)
    if pairs := different_pairs(report):
        blocks.append(_PairList(report, pairs, f"Not the same ({len(pairs)})"))
    return _page(report, blocks)


def _brief_page(report: ParityReport) -> Page:
    """The report as a page for a terminal: with one table of kinds, and the first pairs only."""
    blocks: list[Block] = [_CauseTable(report.causes)]
    if report.pairs:
        noise = [(f"baseline, {name}", *counts) for name, *counts in _noise_rows(report)]
        kinds = _kind_table(("kind", *_KIND_HEADS), [*_kind_rows(report), *noise])
        blocks += [kinds, _criterion_table(report)]
    if report.contradictions:
        blocks.append(_contradiction_table(report, most=_MOST_PAIRS))
    pairs = different_pairs(report)
    blocks += [_PairList(report, [pair]) for pair in pairs[:_MOST_PAIRS]]
    more = len(pairs) - _MOST_PAIRS
    note = f"... and {more} more; --report FILE has them all" if more > 0 else ""
    return _page(report, blocks, note)


def _page(report: ParityReport, blocks: Sequence[Block], note: str = "") -> Page:
    return Page(
        title=f"Parity: {report.baseline.name} and {report.candidate.name}",
        lines=tuple(_side_lines(report)),
        summary=f"{report.verdict}: {report.reason}",
        good=report.verdict is ParityVerdict.EQUAL,
        blocks=tuple(blocks),
        note=note,
    )


def _side_lines(report: ParityReport) -> Iterator[str]:
    """The lines that describe the two sides, what was tested, the cost, and the throughput."""
    for role, side in (("baseline", report.baseline), ("candidate", report.candidate)):
        yield f"{role} {side.describe()}"
    if report.pairs:
        yield f"hypothesis: {report.hypothesis}"
        yield f"false alarms: at most {report.alpha:.2%} of runs, all rows together"
        yield f"unit: {_unit(report)}"
    for role, side in (("baseline", report.baseline), ("candidate", report.candidate)):
        yield f"{role}: {side.cost.describe()}{' (saved)' if side.source else ''}"
    yield from (f"note: {note}" for note in report.notes)
    if throughput := report.throughput:
        yield (
            f"throughput candidate / baseline {throughput.ratio:.2f} "
            f"({min(throughput.ratios):.2f} to {max(throughput.ratios):.2f} in "
            f"{len(throughput.ratios)} rounds of {throughput.prompts} prompts)"
        )


def _unit(report: ParityReport) -> str:
    """What changed places in the tests, and how many there were."""
    ours, theirs = report.passes
    passes = f"{ours} of the baseline, {theirs} of the candidate"
    if report.unit is Unit.WHOLE_PASS:
        return f"a pass over all prompts; {passes}"
    count = len(set(report.baseline.groups))
    return f"a pass over a group of prompts; {count} groups, passes: {passes}"


_LONGEST_VALUE = 40  # characters of a value in a row; a hash is longer
_STYLES = {
    Standing.EQUAL: "green",
    Standing.PINNED: "green",
    Standing.UNKNOWN: "yellow",
    Standing.ALLOWED: "yellow",
    Standing.MISMATCH: "bold red",
}


@dataclass(frozen=True, slots=True)
class _CauseTable:
    """The causes of different answers: a table in files, and a list on a terminal."""

    causes: Sequence[Cause]
    title: str = ""

    def to_terminal(self) -> Iterator[RenderableType]:
        """One line per cause; its note follows unless the cause is equal or pinned."""
        for cause in self.causes:
            ours, theirs = _values(cause)
            values = one_line(ours if ours == theirs else f"{ours} / {theirs}")
            standing = (cause.standing.ljust(10), _STYLES[cause.standing])
            yield Text.assemble(cause.name.ljust(19), standing, values)
            if cause.note and cause.standing not in {Standing.EQUAL, Standing.PINNED}:
                yield Padding(Text(one_line(cause.note), style="dim"), (0, 0, 0, 29))

    def to_markdown(self) -> Iterator[str]:
        """A table with one row per cause."""
        return self._table().to_markdown()

    def to_html(self) -> Markup:
        """The same table."""
        return self._table().to_html()

    def _table(self) -> Table:
        heads = ("cause", "standing", "baseline", "candidate", "what was seen")
        rows = [(c.name, c.standing.value, *_values(c), c.note) for c in self.causes]
        return Table.of_texts(heads, rows, self.title)


def _values(cause: Cause) -> tuple[str, str]:
    return clipped(cause.baseline, _LONGEST_VALUE), clipped(cause.candidate, _LONGEST_VALUE)


_KIND_HEADS = ("prompts", "same", "other", "one failed", "both failed", "logprob")
_KIND_COUNTS = ("prompts", "same", "diverged", "failed_on_one_side", "failed_on_both")


def _kind_table(heads: tuple[str, ...], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    return Table.of_texts(heads, rows, title, right=heads[1:], unwrapped=heads[:1])


def _kind_rows(report: ParityReport) -> list[tuple[str, ...]]:
    """One row per kind of prompts, and one row for all prompts."""
    kinds = [_kind_row(kind, pairs) for kind, pairs in report.kinds.items()]
    return [*kinds, _kind_row("all", report.pairs)]


def _noise_rows(report: ParityReport) -> list[tuple[str, ...]]:
    """One row per further pass of the baseline."""
    return [_kind_row(name, pairs) for name, pairs in report.variations.items()]


def _kind_row(name: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    summary = summary_of(pairs)
    largest = summary["logprob_difference"]["max"]
    return (name, *(str(summary[key]) for key in _KIND_COUNTS), _number(largest))


def _criterion_table(report: ParityReport, title: str = "") -> Table:
    heads = ("what", "candidate", "noise", "p", "adjusted", "would see", "")
    rows = [_criterion_row(criterion) for criterion in report.criteria]
    return Table.of_texts(heads, rows, title, right=heads[1:], unwrapped=heads[:1])


def _criterion_row(criterion: Criterion) -> tuple[str, ...]:
    word = {True: "differs", False: "", None: ""}[criterion.differs]
    numbers = (criterion.noise, criterion.p_value, criterion.adjusted)
    measured = criterion.measured()
    return criterion.name, measured, *map(_number, numbers), criterion.seen(), word


def _contradiction_table(report: ParityReport, title: str = "", most: int | None = None) -> Table:
    rows = [(one.id, one.what) for one in report.contradictions]
    shown = rows[:most]
    if more := len(rows) - len(shown):
        shown.append(("...", f"and {more} more; --report FILE has them all"))
    return Table.of_texts(("prompt", "the answer contradicts itself"), shown, title)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def different_pairs(report: ParityReport) -> list[Pair]:
    """The pairs whose answers differ, failed or contradict themselves, in order."""
    odd = {one.id for one in report.contradictions}
    return [pair for pair in report.pairs if pair.status is not Status.SAME or pair.id in odd]


_LONGEST_ANSWER = 240


@dataclass(frozen=True, slots=True)
class _PairList:
    """Pairs of answers that are not the same, with both answers."""

    report: ParityReport
    pairs: Sequence[Pair]
    title: str = ""

    def to_terminal(self) -> Iterator[RenderableType]:
        """One line per pair, and a line per answer, which is cut if it is long."""
        for pair in self.pairs:
            where = f"  {one_line(pair.divergence.describe())}" if pair.divergence else ""
            yield Text.assemble((pair.id, "bold"), f"  {pair.status}{where}")
            for mark, answer in zip("-+", self.report.answers(pair.id), strict=True):
                text = answer.error if pair.status is not Status.DIVERGED else answer.text
                yield Text(f"  {mark} {clipped(one_line(text or 'answered'), _LONGEST_ANSWER)}")

    def to_markdown(self) -> Iterator[str]:
        """A list with one item per pair."""
        yield f"## {self.title}"
        yield "\n".join(line for pair in self.pairs for line in self._markdown_lines(pair))

    def _markdown_lines(self, pair: Pair) -> Iterator[str]:
        where = f", {escape(pair.divergence.describe())}" if pair.divergence else ""
        yield f"- `{pair.id}` {pair.status}{where}"
        answers = self.report.answers(pair.id)
        for role, answer in zip(("baseline", "candidate"), answers, strict=True):
            yield f"  - {role}: {escape(answer.error or answer.text)}"

    def to_html(self) -> Markup:
        """One box per pair with both answers side by side, and their first difference marked."""
        boxes = [(pair, self._question(pair), self._cuts(pair)) for pair in self.pairs]
        return pages.fill("pairs.html.jinja", package=_HERE, title=self.title, boxes=boxes)

    def _question(self, pair: Pair) -> str:
        """The last message of the prompt."""
        return str(self.report.prompt(pair.id).messages[-1].get("content", ""))

    def _cuts(self, pair: Pair) -> tuple[_Cut, _Cut]:
        ours, theirs = self.report.answers(pair.id)
        if pair.divergence is None:
            return _whole(ours), _whole(theirs)
        place = first_difference(ours.text, theirs.text)
        shared = len(ours.text) if place is None else place
        return (
            _cut(ours.text, shared, pair.divergence.baseline),
            _cut(theirs.text, shared, pair.divergence.candidate),
        )


_HERE = "pytest_llmengine.parity"


@dataclass(frozen=True, slots=True)
class _Cut:
    """An answer in three parts: the beginning that both share, the first other token, the rest."""

    shared: str
    first: str
    rest: str


def _whole(answer: ParityAnswer) -> _Cut:
    return _Cut(answer.text, answer.error or "", "")


def _cut(text: str, shared: int, token: DivergingToken) -> _Cut:
    own = text[shared:]
    first = token.token or ""
    length = len(first) if first and own.startswith(first) else min(len(own), 1)
    return _Cut(text[:shared], own[:length], own[length:])
