"""``llmengine batch``: send a file of requests to one or several engines."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli.options import stderr

if TYPE_CHECKING:
    from llmengine import BatchReport

_HOSTED = "Hosted batches"


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
    hosted: Annotated[
        bool,
        typer.Option(
            "--hosted",
            help="Upload the requests, and let the server answer them by OpenAI's Batch API.",
            rich_help_panel=_HOSTED,
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait",
            help="Read the answers that are there, and do not wait for the others; a later run "
            "reads them.",
            rich_help_panel=_HOSTED,
        ),
    ] = False,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="Cancel the batches of the output; the answers that they have are kept.",
            rich_help_panel=_HOSTED,
        ),
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="SECONDS",
            help="The first wait between two looks at the batches; later waits are up to twelve "
            "times as long.",
            show_default="5",
            rich_help_panel=_HOSTED,
        ),
    ] = None,
) -> None:
    """Send the requests of a file, and continue an earlier run that was stopped.

    Exit status: 0 if all lines are answered, 1 if some are not, 2 if no request could be sent or
    the wait for hosted batches ended with an error.
    """
    from llmengine import run_batch, run_hosted_batch
    from llmengine.batch.hosted import POLL_SECONDS
    from llmengine.types.errors import ConfigError
    from pytest_llmengine.cli.batch_run import (
        batch_progress,
        hosted_progress,
        make_engines,
        summary,
    )

    if (no_wait or cancel or poll) and not hosted:
        raise ConfigError("--no-wait, --cancel and --poll are for hosted batches; add --hosted")
    servers = max(len(engine or []), len(url or []))
    if hosted and (servers != 1 or concurrency is not None):
        raise ConfigError("--hosted needs one --engine or --url, and has no --concurrency")
    engines = make_engines(engine or [], url or [], model, config, concurrency)
    under_way = 0
    try:
        if hosted:
            hosted_report = run_hosted_batch(
                source,
                output,
                engines[0],
                resume=not no_resume,
                only_failed=only_failed,
                wait=not no_wait,
                cancel=cancel,
                poll_seconds=poll or POLL_SECONDS,
                on_progress=hosted_progress(stderr()),
            )
            under_way = sum(not batch.has_ended for batch in hosted_report.batches)
            report: BatchReport = hosted_report
        else:
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
        if hosted:
            _print("batches that were created go on; --cancel cancels them")
        raise
    finally:
        for opened in engines:
            opened.close()
    for error in report.errors:
        _print(error)
    if under_way:
        count = "1 batch is" if under_way == 1 else f"{under_way} batches are"
        _print(f"{count} under way; run the same command again to read the answers")
    elif report.progress.failed:
        _print("to send the failed requests again, run the same command with --only-failed")
    typer.echo(f"{output}: {summary(report.progress)}")
    raise typer.Exit(0 if report.ok else 1)


def _print(line: str) -> None:
    stderr().print(line, soft_wrap=True)
