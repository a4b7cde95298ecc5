"""``llmengine mock``: the mock server, for tests in any language."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pytest_llmengine.cli.options import (
    AllowHostOption,  # noqa: TC001 - typer reads the annotations
    CorsOption,  # noqa: TC001 - typer reads the annotations
)

app = typer.Typer(
    help="Run the mock server, which follows every rule of the contract.", no_args_is_help=True
)


@app.command()
def serve(  # noqa: PLR0913 - one option each
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 chooses a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="Require this key; by default, every key is accepted.")
    ] = None,
    model: Annotated[str, typer.Option(help="The name of the model.")] = "mock",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="A fault to simulate, such as status=503,retry_after=1, or 'none' for a good "
            "answer; repeatable, one per call in turn.",
        ),
    ] = None,
    replies: Annotated[
        Path | None,
        typer.Option(help="A file of answers in order: one JSON string or message per line."),
    ] = None,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Print the base URL, and serve until Ctrl-C."""
    from itertools import cycle

    from llmengine.mock import MockServer, Script
    from pytest_llmengine.cli.mock_arguments import parse_fault, read_replies
    from pytest_llmengine.cli.record_replay import until_signal

    script = Script(
        replies=read_replies(replies) if replies else (),
        faults=cycle([parse_fault(text) for text in fault or ()]),
    )
    server = MockServer(
        script=script,
        api_key=api_key,
        model=model,
        host=host,
        port=port,
        allowed_hosts=allow_host or (),
        cors=cors or (),
    )
    with until_signal() as wait, server:
        typer.echo(server.base_url)
        wait()
