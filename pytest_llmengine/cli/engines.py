"""``llmengine engines``: list engines, check whether they answer, and keep servers running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_llmengine.cli.options import (
    GpusOption,
    ImageOption,
    StartupTimeoutOption,
    print_rows,
    stderr,
)

app = typer.Typer(help="List, check, start and stop the servers of engines.", no_args_is_help=True)

_Config = Annotated[Path | None, typer.Option(help="The engines file (YAML).")]
_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A backend, or an engine of the engines file.")
]


@app.command("list")
def list_engines(*, config: _Config = None) -> None:
    """List the engines of the file, or all backends, and the addresses of their servers."""
    from pytest_llmengine.cli.engine_status import HEADS, rows

    found, note = rows(config)
    repeated = all(name == backend for name, backend, *_ in found)
    print_rows(HEADS, found, spare="backend" if repeated else None)
    if note:
        stderr().print(note, soft_wrap=True)


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", show_default="all engines of the file"),
    ] = None,
    *,
    config: _Config = None,
) -> None:
    """Request one token from each engine, and print its version, its model and the time.

    Exit status: 1 if an engine does not answer.
    """
    from llmengine.engine.files import load_engines
    from pytest_llmengine.cli.engine_status import check_engine

    if not names and config is None:
        raise typer.BadParameter("name the engines, or give an engines file with --config")
    wanted = names or (list(load_engines(config)) if config else [])
    checks = [check_engine(name, config) for name in wanted]
    print_rows(("name", "answers"), [(c.name, c.describe()) for c in checks], prose=True)
    raise typer.Exit(0 if all(c.error is None for c in checks) else 1)


@app.command()
def warmup(  # noqa: PLR0913 - one option each
    name: _Name,
    *,
    config: _Config = None,
    url: Annotated[
        str | None,
        typer.Option("--url", "--engine-url", help="The address of a server to wake up."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--engine-model", help="The model to use.")
    ] = None,
    image: ImageOption = None,
    gpus: GpusOption = None,
    startup_timeout: StartupTimeoutOption = None,
) -> None:
    """Start the engine's container, or wake up its server, and print the address once it answers.

    A container is started if no address is configured or an image is given; it runs until
    `llmengine engines stop NAME`.
    """
    from pytest_llmengine.cli.engine_status import warm_up
    from pytest_llmengine.cli.progress import start_progress
    from pytest_llmengine.targets import Settings

    settings = Settings(
        engines=(name,),
        url=url,
        model=model,
        config=config,
        image=image,
        gpus=gpus,
        startup_timeout=startup_timeout,
    )
    with start_progress(stderr()) as on_progress:
        address = warm_up(name, settings, on_progress)
    typer.echo(address)


@app.command()
def stop(name: _Name) -> None:
    """Remove the container that `warmup` started for an engine."""
    from pytest_llmengine.containers.docker import ContainerError
    from pytest_llmengine.containers.lifecycle import stop as stop_kept

    if not stop_kept(name):
        raise ContainerError(
            f"no container runs for {name!r}; `llmengine engines list` shows those that do"
        )
