"""The ``llmengine`` command: its subcommands, and one line for each error that users can fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli import (
    batch,
    bench,
    cassettes,
    contract,
    drift,
    drift_watch,
    engines,
    errors,
    mock,
    models,
    parity,
    record_replay,
    report,
    run_yaml,
    verify,
)
from pytest_llmengine.cli.options import stderr
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="llmengine",
    help="Test, compare, record and simulate LLM servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(verify.verify)
app.command()(batch.batch)
app.command()(bench.bench)
app.command()(parity.parity)
app.command()(record_replay.record)
app.command()(record_replay.replay)
app.command("run-yaml")(run_yaml.run_yaml)
app.add_typer(cassettes.app, name="cassettes")
app.add_typer(contract.app, name="contract")
app.add_typer(drift.app, name="drift")
drift.app.command()(drift_watch.watch)
drift.app.command()(drift_watch.accept)
app.add_typer(engines.app, name="engines")
app.add_typer(mock.app, name="mock")
app.add_typer(models.app, name="models")
app.add_typer(report.app, name="report")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmengine {tool_version()}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Test, compare, record and simulate LLM servers."""


@app.command("version")
def _version() -> None:
    """Print the version."""
    _print_version(wanted=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``llmengine`` command and return its exit status.

    0 means success, 1 a verdict that is not accepted, 2 an error that the user can fix (one line on
    standard error), 130 an interrupt. A bug is raised with its traceback.
    """
    try:
        status = app(args=argv, prog_name="llmengine", standalone_mode=False)
    except KeyboardInterrupt:
        return errors.INTERRUPTED
    except Exception as error:
        line = errors.user_message(error)
        if line is None:
            raise
        stderr().print(f"llmengine: {line}", soft_wrap=True)
        return errors.USER_ERROR
    return status if isinstance(status, int) else 0
