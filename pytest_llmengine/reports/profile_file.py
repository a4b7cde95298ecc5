"""Write a profile that accepts the results of a run, with the evidence for each entry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError
from llmengine.types.request import Capability
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome, kind_of
from pytest_llmengine.contract.profile import DEVIANT, Deviation
from pytest_llmengine.reports.contract_page import header_lines
from pytest_llmengine.reports.page import check_path, clipped, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header


_EVIDENCE = 300  # characters per line of evidence
_REASON = 200


def check_profile_path(path: Path, given: Path | None) -> None:
    """Raise ConfigError unless a profile can be written to this path.

    An existing file is replaced only if it is the profile that the run itself was given.
    """
    check_path(path, (".toml",), "profile")
    if path.exists() and (given is None or not path.samefile(given)):
        raise ConfigError(
            f"profile {path}: the file exists; give another name, or also --profile {path}, which "
            "updates it"
        )


def to_profile(results: Sequence[CheckResult], base: Profile, report: ContractReport) -> str:
    """The text of a profile of the server, made from the results of a run with profile `base`.

    The evidence comes from the records of the report. A check that broke its rule becomes a
    deviation. A check that passed loses its deviation in `base`, unless the deviation depends on
    something. Deviations that the run did not observe stay unchanged.
    """
    by_id = {result.check.id: result for result in results}
    known = {key: one for key, one in base.deviations.items() if _stays(one, by_id.get(key))}
    broken = [result for result in results if _is_broken(result, base)]
    undecided = [r for r in results if r.observed in {Outcome.ERROR, Outcome.NOT_RUN}]
    header = report.header
    records = {record.id: record for record in report.checks}
    lines = [
        *(f"# {one_line(line)}" for line in header_lines(report)),
        f"engine = {_quoted(base.engine if base.deviations else header.engine)}",
        *_capabilities(base),
    ]
    for result in broken:
        deviation = known.pop(result.check.id, None)
        lines += [
            "",
            *_evidence(result, records[result.check.id]),
            *_entry(_renewed(deviation, result) or _new_deviation(result, header)),
        ]
    for deviation in known.values():
        lines += ["", "# Not seen in this run.", *_entry(deviation)]
    if undecided:
        lines += ["", "# These checks have no verdict, so nothing is known about them:"]
        lines += [f"# - {r.check.id}: {_short(r.reason, _REASON)}" for r in undecided]
    return "\n".join(lines) + "\n"


def write_profile(
    results: Sequence[CheckResult], base: Profile, report: ContractReport, path: Path
) -> int:
    """Write the profile and return how many deviations the run saw."""
    path.write_text(scrub(to_profile(results, base, report)), encoding="utf-8")
    return sum(_is_broken(result, base) for result in results)


def _is_broken(result: CheckResult, base: Profile) -> bool:
    """Whether a result needs a deviation; a refusal of an unclaimed capability needs none."""
    refused = result.observed is Outcome.REFUSED
    return result.observed in DEVIANT and (result.check.needs <= base.capabilities or not refused)


def _stays(known: Deviation, result: CheckResult | None) -> bool:
    """Whether a known deviation stays in the profile, after this result of its check."""
    if result is None:
        return True
    if result.observed in {Outcome.PASS, Outcome.LENIENT}:
        return bool(known.depends_on) or (known.package is not None and bool(known.package.missing))
    return result.observed not in DEVIANT or result.observed is known.outcome


def _new_deviation(result: CheckResult, header: Header) -> Deviation:
    who = " ".join(filter(None, (header.engine, header.version)))
    return Deviation(
        check=result.check.id,
        outcome=result.observed,
        version=f"{who} ({header.model}), {header.date[:10]}",
        reason=_short(result.observed_reason, _REASON),
        kind=kind_of(scrub(result.observed_reason)),
    )


def _renewed(known: Deviation | None, result: CheckResult) -> Deviation | None:
    """A known deviation with the kind of reason that this run observed."""
    return known and replace(known, kind=kind_of(scrub(result.observed_reason)))


def _capabilities(base: Profile) -> Iterator[str]:
    """The line of claimed capabilities; without it, a profile claims all of them."""
    if base.capabilities != frozenset(Capability):
        names = ", ".join(_quoted(str(name)) for name in sorted(base.capabilities))
        yield f"capabilities = [{names}]"


def _evidence(result: CheckResult, record: CheckRecord) -> Iterator[str]:
    yield f"# The rule: {one_line(result.check.title)}"
    yield f"# Seen: {_short(result.observed_reason, _EVIDENCE)}"
    for exchange in record.exchanges[-1:]:
        request = "{method} {path} {request_body}".format_map(exchange)
        status = "no answer" if exchange["status"] is None else exchange["status"]
        response = f"{status} {exchange['response_body']}"
        yield f"# > {_short(request, _EVIDENCE)}"
        yield f"# < {_short(response, _EVIDENCE)}"


def _entry(known: Deviation) -> Iterable[str]:
    fields = {
        "check": known.check,
        "outcome": str(known.outcome),
        "version": known.version,
        "reason": known.reason,
        "link": known.link,
        "depends_on": known.depends_on,
        "package": str(known.package or ""),
        "kind": known.kind,
    }
    return ["[[deviation]]", *(f"{k} = {_quoted(v)}" for k, v in fields.items() if v)]


def _short(text: str, limit: int) -> str:
    return clipped(one_line(scrub(text)), limit)


def _quoted(text: str) -> str:
    """A basic string of TOML, which has the same escapes as JSON."""
    return json.dumps(one_line(text), ensure_ascii=False)
