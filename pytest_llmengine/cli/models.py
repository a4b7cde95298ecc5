"""``llmengine models``: the models that run without a server of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_llmengine.cli.console import listing, stderr

app = typer.Typer(help="The models of the embedded engine.", no_args_is_help=True)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `models list`.")],
) -> None:
    """Download a model to this user's cache, check it, and print where it is."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415 - keeps --help fast

    from llmengine.embedded import models  # noqa: PLC0415 - keeps --help fast

    columns = (TextColumn(name), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(name, total=None)
        path = models.pull(name, lambda done, total: bar.update(task, completed=done, total=total))
    typer.echo(path)


@app.command("list")
def list_models() -> None:
    """List the models that are known by name, and where they are on this machine."""
    from rich.filesize import decimal  # noqa: PLC0415 - keeps --help fast
    from rich.table import Table  # noqa: PLC0415 - keeps --help fast

    from llmengine.embedded import models  # noqa: PLC0415 - keeps --help fast
    from llmengine.embedded.catalogue import CATALOGUE  # noqa: PLC0415 - keeps --help fast

    table = Table("name", "size", "file", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, model in CATALOGUE.items():
        found = models.find(name)
        where = str(found) if found else f"not here yet; `llmengine models pull {name}` gets it"
        table.add_row(name, decimal(model.size), where)
    listing().print(table)
