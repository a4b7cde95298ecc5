"""``llmengine cassettes``: look after the recordings of engines."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

app = typer.Typer(help="Look after the recordings of engines.", no_args_is_help=True)


@app.command()
def pack(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of recordings, such as cassettes/mine.")
    ],
) -> None:
    """Replace a folder of recordings by one zip file beside it, and print its path.

    A replay reads the file like the folder. The same recordings always give the same file.
    """
    from pytest_llmengine.recording import packed

    typer.echo(packed.pack(folder))


@app.command()
def unpack(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A packed file, such as cassettes/mine.zip.")
    ],
) -> None:
    """Replace a packed file by the folder of its recordings, and print the folder's path."""
    from pytest_llmengine.recording import packed

    typer.echo(packed.unpack(file))
