"""The reference pages of the documentation site, made from the code: each function is one page."""

from __future__ import annotations

import json
from collections import defaultdict
from html import escape
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer
from typer.cli import get_docs_for_click

import llmengine
from llmengine.config.settings import EngineSettings
from pytest_llmengine.cli.app import app
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.profile import load_profile, shipped_profiles
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.plugin.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.contract.profile import Deviation
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.plugin.options import Option

# A public name of llmengine is on the first page that has the name's module or a package of it.
_API_PAGES = {
    "errors": ("Errors", ("llmengine.types.errors", "llmengine.types.results")),
    "answers": ("Requests and answers", ("llmengine.types",)),
    "batches": ("Batches and workers", ("llmengine.batch", "llmengine.worker")),
    "engines": ("Engines and their configuration", ("llmengine",)),
}
# Other public modules: the page's title, and the names that it shows.
_MODULE_PAGES = {
    "mock": ("The mock server", "llmengine.mock"),
    "recording": ("Recorder and replayer", "pytest_llmengine.recording"),
    "contract": ("Rules of your own", "pytest_llmengine.contract"),
    "dspy": ("DSPy", "llmengine.integrations.dspy"),
    "ray": ("Ray Data", "llmengine.integrations.ray_data"),
}
_OPTIONS = """\
# pytest options

The command line takes precedence over the environment, and the environment over the ini file.
[The pytest plugin](../plugin.md) explains the options, and lists the fixtures and the markers.

| option | environment | ini | what it sets |
|---|---|---|---|"""
_IMPORTED = "These names can be imported from `{}`."
_BACKENDS = "[Write a backend](../../backends.md) has a complete example."
_RULES = """\
[The contract](../../contract.md) explains levels, tiers and outcomes.
[Traceability](../../traceability.md) lists what the sources demand, and which rule tests it."""
_BACKEND_NAMES = (
    "llmengine.backends.base.Backend",
    "llmengine.backends.connection.Connection",
    "llmengine.dialects.base.Dialect",
)


def pages() -> dict[str, str]:
    """The text of every reference page by its path in the site."""
    found = {
        "reference/commands.md": commands(),
        "reference/pytest-options.md": pytest_options(),
        "reference/schemas.md": schemas(),
        "reference/rules/index.md": rules(),
    }
    found |= {f"reference/rules/{name}.md": text for name, text in rule_pages()}
    return found | {f"reference/api/{name}.md": text for name, text in api_pages()}


def commands() -> str:
    """Every command of ``llmengine`` with its options, as ``--help`` shows them."""
    command = typer.main.get_command(app)
    _show_whole_summaries(command)
    context = command.make_context("llmengine", [], resilient_parsing=True)
    text: str = get_docs_for_click(obj=command, ctx=context, name="llmengine", title="Commands")
    return f"{text}\n[The `llmengine` command](../cli.md) has examples with their output.\n"


def _show_whole_summaries(command: Any) -> None:
    """Let lists of commands have whole sentences, which typer cuts to the terminal's width."""
    for sub in getattr(command, "commands", {}).values():
        sub.short_help = (sub.help or "").partition("\n\n")[0]
        _show_whole_summaries(sub)


def pytest_options() -> str:
    """Every option of the pytest plugin."""
    return "\n".join([_OPTIONS, *map(_option_row, OPTIONS)]) + "\n"


def _option_row(option: Option) -> str:
    flags = " ".join(f"`{flag}`" for flag in option.flags)
    choices = " (one of {})".format(", ".join(f"`{c}`" for c in option.choices or ()))
    meaning = _cell(option.help) + (choices if option.choices else "")
    return f"| {flags} | `{option.variable}` | `{option.key}` | {meaning} |"


def schemas() -> str:
    """The JSON schema of an engine, and where the one of a report is described."""
    schema = EngineSettings.model_json_schema(by_alias=False)
    del schema["description"]  # the page of the class has it
    return (
        "# JSON schemas\n\n"
        "## An engine\n\n"
        "The schema of one entry of an [engines file](../library.md#engines-in-a-file), with the "
        "fields' names and whole forms. Other names (`base_url`) and short forms (a number as "
        "`timeout`) are accepted too. [EngineSettings]"
        "(api/engines.md#llmengine.config.settings.EngineSettings) explains the fields.\n\n"
        f"```json\n{json.dumps(schema, indent=2)}\n```\n\n"
        "## A report\n\n"
        "[The JSON report](../report-schema.md) describes the fields of a report, and "
        "[report.schema.json](../report.schema.json) is its schema.\n"
    )


def rules() -> str:
    """The list of the groups of rules."""
    checks = _shipped()
    lines = [
        "# Rules",
        "",
        f"The contract has {len(checks)} rules. {_RULES}",
        "",
        "| group | rules |",
        "|---|---|",
    ]
    for name, members in _by_page(checks).items():
        groups = groupby(members, key=lambda check: check.group)
        lines += [
            f"| [{group}]({name}.md#{_anchor(group)}) | {len(list(found))} |"
            for group, found in groups
        ]
    return "\n".join(lines) + "\n"


def rule_pages() -> Iterator[tuple[str, str]]:
    """A page for all groups that begin with the same word, with every rule of them."""
    checks = _shipped()
    broken: dict[str, list[str]] = defaultdict(list)
    for mutant in mutants():
        broken[mutant.check].append(mutant.behaviour.name)
    profiles = {name: load_profile(name) for name in shipped_profiles()}
    for name, members in _by_page(checks).items():
        lines = [f"# Rules: {name}", ""]
        for group, found in groupby(members, key=lambda check: check.group):
            lines += [f"## {group} {{ #{_anchor(group)} }}", ""]
            for check in found:
                known = {
                    engine: profile.deviations[check.id]
                    for engine, profile in profiles.items()
                    if check.id in profile.deviations
                }
                lines += _rule(check, broken[check.id], known)
        yield name, "\n".join(lines) + "\n"


def _rule(check: Check, broken: list[str], known: dict[str, Deviation]) -> Iterator[str]:
    yield f"### {check.id} {{ #{check.id} }}"
    yield ""
    yield f"**{_text(check.title)}**"
    yield ""
    if check.breaks:
        yield _text(check.breaks)
        yield ""
    yield f"- {check.level}, {check.tier.name.lower()}, since {check.since}"
    sources = [f"[{_text(c.text)}]({c.link}) ({c.revision})" for c in check.citations]
    yield f"- source: {'; '.join(sources) or _text(check.source)}"
    if check.needs:
        yield f"- needs: {', '.join(sorted(check.needs))}; without it a refusal is a fair answer"
    if broken:
        yield f"- mutants: {', '.join(map(_text, broken))}"
    for engine, deviation in known.items():
        seen = f"{deviation.outcome} since {deviation.version}"
        yield f"- `{engine}`: {_text(seen)}: {_text(deviation.reason)}"
    yield ""


def _shipped() -> list[Check]:
    return [check for check in catalogue().values() if check.own_file is None]


def _by_page(checks: list[Check]) -> dict[str, list[Check]]:
    """The checks, which are in the order of their groups, by the first word of the group."""
    found: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        found[check.group.partition(".")[0]].append(check)
    return found


def _anchor(group: str) -> str:
    return f"group-{group}"


def api_pages() -> Iterator[tuple[str, str]]:
    """The public names, by area."""
    names: dict[str, list[str]] = {page: [] for page in _API_PAGES}
    for name in sorted(llmengine.__all__):
        module = getattr(llmengine, name).__module__
        starts = ((page, start) for page, (_, found) in _API_PAGES.items() for start in found)
        page = next(page for page, start in starts if f"{module}.".startswith(f"{start}."))
        names[page].append(f"llmengine.{name}")
    names["engines"].append("llmengine.config.settings.EngineSettings")
    for page, (title, _) in _API_PAGES.items():
        yield page, _api_page(title, _IMPORTED.format("llmengine"), names[page])
    for page, (title, package) in _MODULE_PAGES.items():
        public = [f"{package}.{name}" for name in sorted(import_module(package).__all__)]
        yield page, _api_page(title, _IMPORTED.format(package), public)
    yield "backends", _api_page("Backends", _BACKENDS, _BACKEND_NAMES)


def _api_page(title: str, intro: str, names: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", intro, *(f"::: {name}" for name in names)]) + "\n"


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\`*_[]#|~":
        text = text.replace(character, f"\\{character}")
    return escape(text, quote=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
