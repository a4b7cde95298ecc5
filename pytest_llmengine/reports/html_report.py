"""The reports of one or more servers as one HTML file with scores, findings and every rule.

The file loads nothing. All content is there without scripts; the one inline script filters, sorts
and folds the rows, and is allowed by its hash. The texts of servers are escaped by the template.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

from llmengine.types.printable import printable
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.facts import shown
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports.exchange_text import exchange_text
from pytest_llmengine.reports.findings import (
    BROKEN,
    KEPT,
    Score,
    advice,
    findings,
    scores,
    verify_command,
)
from pytest_llmengine.reports.model import level_rank
from pytest_llmengine.reports.page import clipped, fill, one_line
from pytest_llmengine.reports.version_history import version_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.reports.exchange_text import ExchangeText
    from pytest_llmengine.reports.findings import Advice, Finding
    from pytest_llmengine.reports.model import CheckRecord, ContractReport
    from pytest_llmengine.reports.page import Table

_TOP_FINDINGS = 5
_TOP_FINDINGS_OF_MANY = 3  # per server
_LONGEST_SUMMARY = 220  # characters
_LONGEST_REASON = 700
# The same on a page of many servers. The bodies of all its exchanges have so many characters
# together, and every body gets the same share, or the least that is of use.
_LONGEST_REASON_OF_MANY = 200
_BODIES = 450_000
_LEAST_BODY = 160


def html_report(
    reports: Sequence[ContractReport],
    names: Sequence[str],
    *,
    title: str,
    summary: str,
    tables: Sequence[Table] = (),
) -> str:
    """The page of these reports.

    ``names`` are the unique names of the servers. ``tables`` are shown below the matrix.
    """
    content = _Content(reports, [one_line(scrub(name)) for name in names])
    style, script = _text("report.css"), _text("report.js")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    page = fill(
        "report.html.jinja",
        title=title,
        summary=summary,
        content=content,
        tables=tables,
        top=_TOP_FINDINGS,
        few=_TOP_FINDINGS_OF_MANY,
        style=style,
        script=script,
        policy=policy,
    )
    return printable(str(page))  # the texts of servers and of reports may be anything


def _text(name: str) -> str:
    return (resources.files("pytest_llmengine.reports") / "templates" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """The hash by which a content security policy allows an inline style or script."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def rule_ids(ids: Iterable[str]) -> list[str]:
    """The ids in the order of the catalogue; ids that are no longer in it come last."""
    order = {known: place for place, known in enumerate(catalogue())}
    return sorted(dict.fromkeys(ids), key=lambda one: order.get(one, len(order)))


@dataclass(frozen=True, slots=True)
class RuleLink:
    """A rule that is mentioned on the page, and the name of its place there."""

    id: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The same verdict of one or more servers on a rule, with the exchanges of the first one.

    ``follows`` is the rule from whose verdict this one follows, and ``leads`` are the rules that
    follow from this one. ``known`` names the version for which a profile lists the deviation.
    """

    record: CheckRecord
    servers: tuple[str, ...]
    reason: str
    known: str
    follows: RuleLink | None
    leads: tuple[RuleLink, ...]
    exchanges: tuple[ExchangeText, ...]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule with the record of each server, None if the server has none.

    ``check`` is None for a rule that is not in the catalogue. ``cause`` is the rule from which
    every broken verdict of this row follows.
    """

    link: RuleLink
    check: Check | None
    group: str
    level: str
    records: tuple[CheckRecord | None, ...]
    verdicts: tuple[Verdict, ...]
    cause: RuleLink | None
    history: tuple[str, ...]

    @property
    def leads(self) -> int:
        """How many rules follow from a verdict of this one."""
        return max((len(verdict.leads) for verdict in self.verdicts), default=0)

    @property
    def outcomes(self) -> list[tuple[Outcome, int]]:
        """How many servers have each outcome, the most frequent one first."""
        return Counter(r.outcome for r in self.records if r is not None).most_common()


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """The rules of a group."""

    name: str
    rules: tuple[RuleRow, ...]

    @property
    def scores(self) -> list[Score]:
        """The score of each server in this group."""
        columns = zip(*(rule.records for rule in self.rules), strict=True)
        return [Score.of(self.name, filter(None, column)) for column in columns]


_REFUSED = "The server refuses this with a clear error, and its clients have to do without it."


@dataclass(frozen=True, slots=True)
class FindingText:
    """A finding in words, with its meaning for a client and the command that repeats it."""

    finding: Finding
    rule: RuleRow
    summary: str
    meaning: str
    command: str
    others: tuple[RuleLink, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One server: what it is, its scores and findings, and what to do."""

    name: str
    report: ContractReport
    describe: str
    scores: list[Score]
    total: Score
    findings: list[FindingText]
    advice: list[Advice]


@dataclass(frozen=True, slots=True)
class VersionChange:
    """The rules that a newer version keeps and an older one breaks (``better``), and vice versa."""

    product: str
    older: str
    newer: str
    better: tuple[RuleLink, ...]
    worse: tuple[RuleLink, ...]


class _Content:
    """What the template shows of the reports."""

    def __init__(self, reports: Sequence[ContractReport], names: Sequence[str]) -> None:
        self._reports = reports
        self._names = names
        self._records = [{record.id: record for record in r.checks} for r in reports]
        self._follows = [report.follows for report in reports]
        self._catalogue = catalogue()
        ids = rule_ids(id_ for records in self._records for id_ in records)
        # A report may come from anyone, so an id may be any text.
        self._links = {
            id_: RuleLink(id_, id_ if _ANCHOR.fullmatch(id_) else f"rule-{place}")
            for place, id_ in enumerate(ids)
        }
        self._lines = version_lines(reports)
        self.rules = {id_: self._rule(id_) for id_ in ids}

    @property
    def single(self) -> bool:
        """Whether the page is about one server."""
        return len(self._reports) == 1

    @cached_property
    def columns(self) -> list[Column]:
        """The servers."""
        return [self._column(*one) for one in zip(self._names, self._reports, strict=True)]

    @cached_property
    def groups(self) -> list[RuleGroup]:
        """The rules by group."""
        found: dict[str, list[RuleRow]] = {}
        for rule in self.rules.values():
            found.setdefault(rule.group, []).append(rule)
        return [RuleGroup(name, tuple(rules)) for name, rules in found.items()]

    @property
    def levels(self) -> list[str]:
        """The levels that occur, required first."""
        return sorted({rule.level for rule in self.rules.values()}, key=level_rank)

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes that occur."""
        found = {record.outcome for report in self._reports for record in report.checks}
        return [outcome for outcome in Outcome if outcome in found]

    @property
    def changes(self) -> list[VersionChange]:
        """What changed from each version of a server to the next."""
        return [
            self._change(line.product, older, newer)
            for line in self._lines
            for older, newer in pairwise(line.places)
        ]

    def _column(self, name: str, report: ContractReport) -> Column:
        return Column(
            name=name,
            report=report,
            describe=one_line(scrub(report.header.describe)),
            scores=scores(report),
            total=Score.of("all", report.checks),
            findings=[self._finding(found, report) for found in findings(report)],
            advice=list(advice(report)),
        )

    def _finding(self, found: Finding, report: ContractReport) -> FindingText:
        reason, _ = observed_reason(found.example)
        rule = self.rules[found.example.id]
        refused = found.example.observed is Outcome.REFUSED
        return FindingText(
            finding=found,
            rule=rule,
            meaning=_REFUSED if refused else rule.check.breaks if rule.check else "",
            summary=clipped(one_line(shown(found.example.fact) or reason), _LONGEST_SUMMARY),
            command=verify_command(report.header, "--check", found.example.id),
            others=tuple(self._links[record.id] for record in found.others),
        )

    def _rule(self, id_: str) -> RuleRow:
        records = [records.get(id_) for records in self._records]
        first = next(record for record in records if record is not None)
        causes = {
            follows.get(id_)
            for record, follows in zip(records, self._follows, strict=True)
            if record is not None and record.outcome in BROKEN
        }
        cause = causes.pop() if len(causes) == 1 else None
        return RuleRow(
            link=self._links[id_],
            check=self._catalogue.get(id_),
            group=first.group,
            level=first.level,
            records=tuple(records),
            verdicts=tuple(self._verdicts(id_, records)),
            cause=self._links[cause] if cause else None,
            history=tuple(line.history(records) for line in self._lines),
        )

    def _verdicts(self, id_: str, records: Sequence[CheckRecord | None]) -> Iterator[Verdict]:
        """The verdicts on a rule; servers with equal ones share one, and passes come last."""
        equal: dict[tuple[str, ...], list[int]] = {}
        for place, record in enumerate(records):
            if record is not None:
                reason, known = observed_reason(record)
                cause = self._follows[place].get(id_, "")
                equal.setdefault((record.outcome, reason, known, cause), []).append(place)
        for (_, reason, known, cause), places in sorted(
            equal.items(), key=lambda item: item[0][0] in KEPT
        ):
            record = records[places[0]]
            assert record is not None
            longest = _LONGEST_REASON if self.single else _LONGEST_REASON_OF_MANY
            yield Verdict(
                record=record,
                servers=tuple(self._names[place] for place in places),
                reason=clipped(one_line(reason), longest),
                known=one_line(known),
                follows=self._links.get(cause),
                leads=self._leads(id_, places[0]),
                exchanges=tuple(self._exchanges(record, cause)),
            )

    def _leads(self, id_: str, place: int) -> tuple[RuleLink, ...]:
        return tuple(self._links[one] for one in self._followers[place].get(id_, ()))

    @cached_property
    def _followers(self) -> list[dict[str, list[str]]]:
        """For each report, the rules that follow from each rule."""
        found: list[dict[str, list[str]]] = []
        for follows in self._follows:
            found.append({})
            for follower, cause in follows.items():
                found[-1].setdefault(cause, []).append(follower)
        return found

    def _exchanges(self, record: CheckRecord, cause: str) -> Iterator[ExchangeText]:
        """All exchanges of a record; of many servers, the last one of a finding, cut."""
        if self.single:
            yield from map(exchange_text, record.exchanges)
        elif record.outcome in BROKEN and not cause:
            for exchange in record.exchanges[-1:]:
                yield exchange_text(exchange, self._body_limit)

    @cached_property
    def _body_limit(self) -> int:
        """How many characters of each body are shown on a page of many servers."""
        bodies = sum(
            2
            for report, follows in zip(self._reports, self._follows, strict=True)
            for record in report.checks
            if record.exchanges and record.outcome in BROKEN and record.id not in follows
        )
        return max(_LEAST_BODY, _BODIES // max(bodies, 1))

    def _change(self, product: str, older: int, newer: int) -> VersionChange:
        before, after = self._records[older], self._records[newer]
        moved: dict[bool, list[RuleLink]] = {True: [], False: []}
        for id_ in self.rules:
            if id_ in before and id_ in after:
                was, is_ = before[id_].outcome, after[id_].outcome
                if {was, is_} <= KEPT | BROKEN and (was in KEPT) != (is_ in KEPT):
                    moved[is_ in KEPT].append(self._links[id_])
        return VersionChange(
            product,
            self._names[older],
            self._names[newer],
            better=tuple(moved[True]),
            worse=tuple(moved[False]),
        )


_ANCHOR = re.compile(r"\w+(\.\w+)+", re.ASCII)


def observed_reason(record: CheckRecord) -> tuple[str, str]:
    """The reason as it was observed, and the version for which a profile knows the deviation."""
    mark = f" ({record.observed} as known of "
    if record.outcome is Outcome.DEVIATES and mark in record.reason:
        known, _, seen = record.reason.partition(mark)[2].partition("; seen: ")
        return seen.removesuffix(")"), known
    return record.reason, ""
