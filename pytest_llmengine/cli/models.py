"""``llmengine models``: download and list the models of the embedded engine."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_llmengine.cli.options import print_rows

app = typer.Typer(help="Download and list the models of the embedded engine.", no_args_is_help=True)


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from `llmengine models list`.")
    ],
) -> None:
    """Download a model to the user's cache, verify it, and print its path."""
    from pytest_llmengine.cli.progress import fetch

    typer.echo(fetch(name))


@app.command("list")
def list_models() -> None:
    """List the models that can be downloaded, and their paths on this machine."""
    from rich.filesize import decimal

    from llmengine.embedded import models
    from llmengine.embedded.models import CATALOGUE

    rows = []
    for name, model in CATALOGUE.items():
        found = models.find(name)
        where = str(found) if found else f"not downloaded; run `llmengine models pull {name}`"
        rows.append((name, decimal(model.size), where))
    print_rows(("name", "size", "file"), rows)
