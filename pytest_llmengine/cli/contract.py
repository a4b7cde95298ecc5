"""``llmengine contract``: the rules, and the proof that each of them can fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pytest_llmengine.cli.errors import INTERRUPTED
from pytest_llmengine.cli.options import (
    LevelName,
    RulesOption,
    TierName,
    print_rows,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.coverage import Coverage
    from pytest_llmengine.contract.fields import FieldClosure
    from pytest_llmengine.contract.generated_mutants import GeneratedCoverage
    from pytest_llmengine.contract.registry import Check

_SAMPLE = 300  # generated mutants that are tried in less than a minute

app = typer.Typer(help="The rules of the contract.", no_args_is_help=True)


@app.command("list")
def list_checks(
    *,
    tier: Annotated[
        TierName, typer.Option(help="Only this tier and those below it.")
    ] = TierName.EXTENDED,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this group; repeatable."),
    ] = None,
    level: Annotated[
        list[LevelName] | None,
        typer.Option(help="Only rules of this level; repeatable.", show_default="all"),
    ] = None,
    rules: RulesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every check with its level, tier and rule."""
    from pytest_llmengine.contract.registry import Level, Tier, read_rules, select

    for path in rules or ():
        read_rules(path)
    levels = [Level(name) for name in level or ()]
    checks = select(tier=Tier[tier.name], ids=group or (), levels=levels)
    if as_json:
        typer.echo(json.dumps([_row(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        _print_table(checks)


@app.command()
def explain(
    id: Annotated[  # noqa: A002 - the row's own name
        str, typer.Argument(metavar="ID", help="A check, a group, or the start of several ids.")
    ],
    *,
    rules: RulesOption = None,
) -> None:
    """Print the rule of a check, its source, its mutants, and what shipped profiles say of it."""
    from pytest_llmengine.cli.explanation import explanation
    from pytest_llmengine.contract.registry import read_rules, select

    for path in rules or ():
        read_rules(path)
    console = stdout()
    for check in select(ids=[id]):
        console.print(explanation(check))


@app.command()
def profile(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="A backend, such as vllm_api.")],
) -> None:
    """Print the shipped profile of an engine, to be edited for `verify --profile`."""
    from pytest_llmengine.contract.profile import shipped_profiles

    shipped = shipped_profiles()
    if engine not in shipped:
        raise LookupError(f"no profile is shipped for {engine!r}; there are {', '.join(shipped)}")
    typer.echo(shipped[engine], nl=False)


@app.command()
def coverage(  # noqa: PLR0913 - the options of a command
    *,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this group or check; repeatable."),
    ] = None,
    fields: Annotated[
        bool,
        typer.Option("--fields", help="Only drop each field of the requests: who notices it?"),
    ] = False,
    generated: Annotated[
        bool,
        typer.Option("--generated", help="Only change each part of the answers: who notices it?"),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Try so many of the changes of --generated.",
            show_default=f"all, or {_SAMPLE} without --generated",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the sample of --sample.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes for --generated.")] = 2,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON; without --check, with --fields and --generated too."
        ),
    ] = False,
) -> None:
    """Run every check on the mock server, and on every mock with its rule broken.

    Exit status: 1 when a check fails on the reference or misses a broken rule, when no check
    notices that a field of a request is dropped, or when more than 5% of the changes of answers are
    not noticed. After an interrupt of --generated, what was tried is printed, and the status is
    130.
    """
    from pytest_llmengine.cli.progress import count_progress
    from pytest_llmengine.contract.coverage import measure
    from pytest_llmengine.contract.fields import measure_fields
    from pytest_llmengine.contract.generated_mutants import measure_generated
    from pytest_llmengine.contract.registry import select

    checks = select(ids=check or ())
    only_one = fields or generated
    # A part of the checks says nothing of the fields and answers that others are about.
    everything = as_json and not check and not only_one
    parts: dict[str, Coverage | FieldClosure | GeneratedCoverage] = {}
    console = stderr()
    with console.status(f"{len(checks)} checks on all of their mutants"):
        if not only_one:
            parts["mutants"] = measure(checks)
        if fields or everything:
            parts["fields"] = measure_fields(checks)
    interrupted = False
    if generated or everything:
        size = sample if sample or generated else _SAMPLE
        with count_progress("generated mutants", console) as on_tried:
            tried = measure_generated(checks, sample=size, seed=seed, jobs=jobs, on_tried=on_tried)
        parts["generated"] = tried
        interrupted = tried.untried > 0
    if as_json:
        shown = {name: part.to_dict() for name, part in parts.items()}
        typer.echo(json.dumps(shown.pop("mutants", {}) | shown, indent=2, ensure_ascii=False))
    else:
        for part in parts.values():
            for line in part.lines():
                typer.echo(line)
    complete = all(part.complete for part in parts.values())
    raise typer.Exit(INTERRUPTED if interrupted else 0 if complete else 1)


def _row(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "group": check.group,
        "level": check.level.value,
        "tier": check.tier.name.lower(),
        "rule": check.title,
        "breaks": check.breaks,
        "since": check.since.isoformat(),
        "source": check.source,
        "links": [citation.link for citation in check.citations],
        "needs": sorted(check.needs),
        "timing": check.timing,
        "package": str(check.package) if check.package else None,
    }


def _print_table(checks: list[Check]) -> None:
    rows = [(c.id, c.level.value, c.tier.name.lower(), c.title) for c in checks]
    print_rows(("id", "level", "tier", "rule"), rows, prose=True)
