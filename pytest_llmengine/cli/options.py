"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        "--engine-image",
        help="The image of a container, or to record from.",
        show_default="a pinned one",
    ),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        "--engine-gpus",
        help="The GPUs that a container sees: all, a number, or device=0,1.",
        show_default="none",
    ),
]
StartupTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--startup-timeout",
        "--engine-startup-timeout",
        min=0.001,
        help="How many seconds a container may take to its first token, downloads aside.",
        show_default="600",
    ),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="Answer requests for this host name too; may be given several times.",
        show_default="localhost and loopback addresses",
    ),
]
CorsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cors",
        metavar="ORIGIN",
        help="Let web pages of this origin, such as http://localhost:3000, read the answers.",
        show_default="none",
    ),
]


class LevelName(StrEnum):
    """What a rule rests on."""

    REQUIRED = "required"
    EXPECTED = "expected"
    OPTIONAL = "optional"
    QUIRK = "quirk"


class TierName(StrEnum):
    """How deep to go; a tier includes those before it."""

    SMOKE = "smoke"
    CORE = "core"
    EXTENDED = "extended"
