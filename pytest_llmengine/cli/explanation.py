"""The text of ``llmengine contract explain``: everything that is known about one check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.profile import load_profile, shipped_profiles
from pytest_llmengine.contract.registry import Level

if TYPE_CHECKING:
    from pytest_llmengine.contract.registry import Check

_LEVELS = {
    Level.REQUIRED: "OpenAI's schema says so",
    Level.EXPECTED: "OpenAI's prose or its observed behaviour says so",
    Level.OPTIONAL: "a capability that a server may lack",
    Level.QUIRK: "transport, or what clients have come to rely on",
}


def explanation(check: Check) -> Group:
    """The rule, the reason for it, what breaks it, and what the shipped profiles say about it."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    for name, value in _facts(check):
        table.add_row(name, Text(value))
    body = Padding(Group(Text(_rule(check)), Text(), table), (0, 0, 1, 2))
    return Group(Text(check.id, style="bold"), body)


def _rule(check: Check) -> str:
    return f"{check.title}\n\n{check.breaks}" if check.breaks else check.title


def _facts(check: Check) -> list[tuple[str, str]]:
    broken = [m.behaviour.name for m in mutants() if m.check == check.id]
    needs = ", ".join(sorted(check.needs))
    return [
        ("level", f"{check.level.value}: {_LEVELS[check.level]}"),
        ("tier", check.tier.name.lower()),
        *_sources(check),
        ("since", check.since.isoformat()),
        ("needs", f"{needs}; without it a refusal is a fair answer" if needs else "nothing"),
        *([("drives", f"{check.package}")] if check.package else []),
        ("clock", "only a live run can measure it" if check.timing else "no"),
        *(("mutant", name) for name in broken),
        *(("profile", line) for line in _profiles(check) if check.own_file is None),
    ]


def _sources(check: Check) -> list[tuple[str, str]]:
    rows = [
        row
        for citation in check.citations
        for row in (("source", citation.text), ("", f"{citation.link} ({citation.revision})"))
    ]
    return rows or [("source", check.source)]


def _profiles(check: Check) -> list[str]:
    lines = []
    for name in shipped_profiles():
        profile = load_profile(name)
        deviation = profile.deviations.get(check.id)
        if deviation is not None:
            link = f" {deviation.link}" if deviation.link else ""
            depends = f" Depends on: {deviation.depends_on}." if deviation.depends_on else ""
            seen = f"{deviation.outcome} since {deviation.version}"
            known = f"{seen}: {deviation.reason}{depends}{link}"
            lines.append(f"{name}: {known}")
        elif missing := check.needs - profile.capabilities:
            lines.append(f"{name}: does not claim {', '.join(sorted(missing))}")
        else:
            lines.append(f"{name}: claims to keep it")
    return lines
