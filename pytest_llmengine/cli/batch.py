"""``llmengine batch``: send a file of requests to one or several engines."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pytest_llmengine.cli.options import stderr


def batch(  # noqa: PLR0913 - one option each
    source: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="Requests in OpenAI's batch format.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="The file for the answers.")
    ],
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A backend, or an engine of the engines file; repeatable, to share the work.",
            show_default="openai_compatible with --url, else embedded",
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", "--engine-url", help="The server's address; repeatable, to share the work."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "--engine-model", help="The model for lines that do not name one."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, help="The number of concurrent requests per server.", show_default="the engine's"
        ),
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Start again: empty the output file first.")
    ] = False,
    only_failed: Annotated[
        bool,
        typer.Option(
            "--only-failed", help="Send only the requests that failed in the output file."
        ),
    ] = False,
) -> None:
    """Send the requests of a file, and continue an earlier run that was stopped.

    Exit status: 0 if all lines are answered, 1 if some are not, 2 if no request could be sent.
    """
    from llmengine import run_batch
    from pytest_llmengine.cli.batch_run import batch_progress, make_engines, summary

    engines = make_engines(engine or [], url or [], model, config, concurrency)
    try:
        with batch_progress(stderr()) as on_progress:
            report = run_batch(
                source,
                output,
                engines,
                resume=not no_resume,
                only_failed=only_failed,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        _print(
            f"interrupted; the answers so far are in {output}; "
            "run the same command again to continue"
        )
        raise
    finally:
        for opened in engines:
            opened.close()
    for error in report.errors:
        _print(error)
    if report.progress.failed:
        _print("to send the failed requests again, run the same command with --only-failed")
    typer.echo(f"{output}: {summary(report.progress)}")
    raise typer.Exit(0 if report.ok else 1)


def _print(line: str) -> None:
    stderr().print(line, soft_wrap=True)
