"""``llmengine models``: the models of the embedded engine, which needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_llmengine.cli.options import print_rows

app = typer.Typer(help="The models of the embedded engine.", no_args_is_help=True)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `models list`.")],
) -> None:
    """Download a model to this user's cache, check it, and print where it is."""
    from pytest_llmengine.cli.progress import fetch

    typer.echo(fetch(name))


@app.command("list")
def list_models() -> None:
    """List the models that are known by name, and where they are on this machine."""
    from rich.filesize import decimal

    from llmengine.embedded import models
    from llmengine.embedded.models import CATALOGUE

    rows = []
    for name, model in CATALOGUE.items():
        found = models.find(name)
        where = str(found) if found else f"not here yet; `llmengine models pull {name}` gets it"
        rows.append((name, decimal(model.size), where))
    print_rows(("name", "size", "file"), rows)
