"""``llmengine batch``: a file of requests, sent to one engine or several."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli.options import stderr

if TYPE_CHECKING:
    from llmengine import BatchReport, Engine


def batch(  # noqa: PLR0913 - one option each
    source: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="Requests in OpenAI's batch format.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="Where the answers go.")
    ],
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A backend, or a name of the engines file; several share the work.",
            show_default="openai_compatible with --url, else embedded",
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option("--url", "--engine-url", help="The server's address; several share the work."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "--engine-model", help="The model of lines that name none."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, help="Requests under way at once, for each server.", show_default="the engine's"
        ),
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Start anew: empty the output first.")
    ] = False,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Ask only what the output holds as failed.")
    ] = False,
) -> None:
    """Ask every request of a file, and go on where an earlier run was stopped.

    Exit status: 0 all lines are answered, 1 some are not, 2 nothing could be asked.
    """
    from llmengine import run_batch
    from pytest_llmengine.cli.batch_run import fleet, summary, watching

    engines = fleet(engine or [], url or [], model, config, concurrency)
    try:
        with watching(stderr()) as watch:
            report = run_batch(
                source,
                output,
                engines,
                resume=not no_resume,
                only_failed=only_failed,
                on_progress=watch,
            )
    except KeyboardInterrupt:
        _say(f"interrupted; what was answered is in {output}, the same command goes on from there")
        raise
    finally:
        _close(engines)
    _complain(report)
    typer.echo(f"{output}: {summary(report.progress)}")
    raise typer.Exit(0 if report.ok else 1)


def _complain(report: BatchReport) -> None:
    for error in report.errors:
        _say(error)
    if report.progress.failed:
        _say("to ask what failed once more: the same command with --only-failed")


def _close(engines: list[Engine]) -> None:
    for engine in engines:
        engine.close()


def _say(line: str) -> None:
    stderr().print(line, soft_wrap=True)
