"""``llmengine verify``: the contract suite for people who do not use pytest."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pytest_llmengine.cli.options import (
    GpusOption,
    HeaderOption,
    ImageOption,
    LevelName,
    RulesOption,
    StartupTimeoutOption,
    SummaryOption,
    TierName,
    stdout,
)


class ModeName(StrEnum):
    """Where the answers come from; the last four are vcrpy's record modes."""

    LIVE = "live"
    RECORD = "record"
    REPLAY = "replay"
    DOCKER = "docker"
    NONE = "none"
    ONCE = "once"
    NEW_EPISODES = "new_episodes"
    ALL = "all"


def verify(  # noqa: PLR0913 - one option each
    *,
    engine: Annotated[
        str | None,
        typer.Option(help="A backend, or a name of the engines file.", show_default="embedded"),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", "--engine-url", help="The server's address.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--engine-model", help="The model to ask for.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "--engine-name",
            help="What reports call the server, and the name of its folder of recordings.",
            show_default="the server program, or host and port",
        ),
    ] = None,
    header: HeaderOption = None,
    tier: Annotated[
        TierName,
        typer.Option(
            help="How thorough the run is; a tier includes those before it. "
            "Extended is every rule, which takes many minutes on a CPU; smoke is 30 rules."
        ),
    ] = TierName.EXTENDED,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this group or check; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave out this group or check; repeatable."),
    ] = None,
    level: Annotated[
        list[LevelName] | None,
        typer.Option(help="Only rules of this level; repeatable.", show_default="all"),
    ] = None,
    rules: RulesOption = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also write the report: .json, .md, .html, .xml (JUnit), .sarif, .ctrf.json or "
            ".badge.json; repeatable."
        ),
    ] = None,
    only_differences: Annotated[
        bool,
        typer.Option(
            "--only-differences",
            help="Print only what the profile does not expect: no counts, no known deviations.",
        ),
    ] = False,
    summary: SummaryOption = None,
    mode: Annotated[
        ModeName, typer.Option("--mode", "--engine-mode", help="Where the answers come from.")
    ] = ModeName.LIVE,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    cassettes: Annotated[Path, typer.Option(help="The folder of recordings.")] = Path("cassettes"),
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="When recording, replace what is there.")
    ] = False,
    profile: Annotated[
        Path | None, typer.Option(help="Known deviations (TOML), in place of the shipped ones.")
    ] = None,
    write_profile: Annotated[
        Path | None,
        typer.Option(help="Write a profile that accepts the observed deviations (TOML)."),
    ] = None,
    image: ImageOption = None,
    gpus: GpusOption = None,
    startup_timeout: StartupTimeoutOption = None,
    answer_timeout: Annotated[
        float, typer.Option(min=0.001, help="How many seconds one whole answer may take.")
    ] = 120,
    check_timeout: Annotated[
        float, typer.Option(min=0.001, help="How many seconds all requests of a check may take.")
    ] = 300,
    run_timeout: Annotated[
        float, typer.Option(min=0.001, help="How many seconds the checks may take together.")
    ] = 7200,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, help="Run this many checks at the same time, if live."),
    ] = 1,
    max_unanswered: Annotated[
        int, typer.Option(min=1, help="Stop after this many checks in a row without an answer.")
    ] = 3,
) -> None:
    """Check which rules of the contract a server keeps, and print a report.

    Exit status: 0 all checks are accepted, 1 a check is not, 2 nothing could be checked, 130
    interrupted; the report of an interrupted run has the checks that were run before.
    """
    from pytest_llmengine.cli.errors import INTERRUPTED
    from pytest_llmengine.cli.suite import run_suite
    from pytest_llmengine.contract.limits import Limits
    from pytest_llmengine.contract.registry import Level, Tier, read_rules, select
    from pytest_llmengine.reports import check_report_path, print_report, profile_file, write_report
    from pytest_llmengine.reports.exports import job_summary
    from pytest_llmengine.reports.files import append_summary
    from pytest_llmengine.targets import Settings
    from pytest_llmengine.targets.headers import parse_headers
    from pytest_llmengine.targets.settings import run_mode

    if image is not None and mode in {ModeName.LIVE, ModeName.REPLAY, ModeName.NONE}:
        raise typer.BadParameter("an image goes with --mode docker, or with --mode record")
    if jobs > 1 and mode not in {ModeName.LIVE, ModeName.DOCKER}:
        raise typer.BadParameter(
            "--jobs goes with --mode live or docker: recordings are made and played one by one"
        )
    for path in rules or ():
        read_rules(path)
    for path in report or ():
        check_report_path(path)
    if write_profile is not None:
        profile_file.check_profile_path(write_profile, profile)
    run, record_mode = run_mode(mode, rewrite=rewrite)
    depth = Tier[tier.name]
    tested = engine or ("openai_compatible" if url else "embedded")
    settings = Settings(
        engines=(tested,),
        url=url,
        model=model,
        by_address=url is not None and engine is None,
        server_name=name,
        headers=parse_headers(header or ()),
        config=config,
        mode=run,
        cassettes=cassettes,
        record_mode=record_mode,
        tier=depth,
        image=image,
        gpus=gpus,
        startup_timeout=startup_timeout,
        limits=Limits(
            answer=answer_timeout,
            check=check_timeout,
            run=run_timeout,
            unanswered=max_unanswered,
        ),
    )
    checks = select(
        tier=depth, ids=check or (), skip=skip or (), levels=[Level(one) for one in level or ()]
    )
    ran = run_suite(tested, settings, checks, profile, jobs)
    print_report(ran.report, stdout(), only_differences=only_differences)
    for path in report or ():
        write_report(ran.report, path)
    if summary is not None:
        append_summary(job_summary(ran.report), summary)
    if write_profile is not None:
        count = profile_file.write_profile(ran.results, ran.profile, ran.report, write_profile)
        message = f"written to {write_profile}; broken rules in it: {count}; use it by --profile"
        stdout().print(message, soft_wrap=True)
    raise typer.Exit(INTERRUPTED if ran.interrupted else 0 if ran.report.accepted else 1)
