"""The arguments and options that the commands of ``llmengine drift`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TARGET_HELP = "A backend, an engine of the engines file, or the address of a server."

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `drift record` wrote.")]
Target = Annotated[
    str | None,
    typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default="that of the file"),
]
Url = Annotated[str | None, typer.Option(help="The server's address.")]
Model = Annotated[str | None, typer.Option(help="The model.", show_default="the server's only one")]
Config = Annotated[Path | None, typer.Option(help="The engines file (YAML).")]
Spread = Annotated[
    str,
    typer.Option(
        metavar="TIME", help="Begin the sessions evenly over this time, such as 90s, 30m or 8h."
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Draw the order and the load of requests by this seed.", show_default="none"),
]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Also write the report to this file, .json, .md or .html; repeatable.",
    ),
]
