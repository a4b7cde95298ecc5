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

_LOAD = "Load"


@app.command()
def serve(  # noqa: PLR0913 - one option each
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 chooses a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="Require this key; by default, every key is accepted.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="The name of the model; repeatable.", show_default="mock"),
    ] = None,
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
        typer.Option(
            help="A file with one answer per line: a JSON string, a message, or "
            '{"when": {"contains": "Hi"}, "reply": "Hello."} for an answer by content.'
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            help="Answer so many requests at once; more requests wait.", rich_help_panel=_LOAD
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            help="Let so many requests wait for a slot; any further one gets a 429.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    retry_after: Annotated[
        float,
        typer.Option(help="The seconds in the Retry-After of that 429.", rich_help_panel=_LOAD),
    ] = 1.0,
    time_to_first_token: Annotated[
        float,
        typer.Option(help="The seconds before the first byte.", rich_help_panel=_LOAD),
    ] = 0.0,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(
            help="The pace of each answer.", show_default="at once", rich_help_panel=_LOAD
        ),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            help="Make these times longer or shorter by up to this share, from 0 to 1.",
            rich_help_panel=_LOAD,
        ),
    ] = 0.0,
    chaos: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="Failures with their probabilities, such as status=0.1,cut=0.05; also stall, "
            "slow and malformed.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="The seed of jitter and failures.", rich_help_panel=_LOAD),
    ] = 0,
    batch_seconds: Annotated[
        float,
        typer.Option(help="The seconds that each batch of the Batch API takes."),
    ] = 0.0,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Print the base URL, and serve until Ctrl-C."""
    from itertools import cycle

    from llmengine.mock import BatchSchedule, Load, MockServer, Script
    from pytest_llmengine.cli.mock_arguments import parse_chaos, parse_fault, read_replies
    from pytest_llmengine.cli.record_replay import until_signal

    in_order, by_content = read_replies(replies) if replies else ([], [])
    first, *others = model or ["mock"]
    server = MockServer(
        script=Script(in_order, cycle([parse_fault(text) for text in fault or ()])),
        load=Load(
            slots=slots,
            queue=queue,
            retry_after=retry_after,
            time_to_first_token=time_to_first_token,
            tokens_per_second=tokens_per_second,
            jitter=jitter,
            chaos=parse_chaos(chaos or ""),
            seed=seed,
        ),
        batches=BatchSchedule(seconds=batch_seconds),
        api_key=api_key,
        model=first,
        models=others,
        host=host,
        port=port,
        allowed_hosts=allow_host or (),
        cors=cors or (),
    )
    for stub in by_content:
        server.when(**stub.when).reply(*stub.replies, optional=True)
    with until_signal() as wait, server:
        typer.echo(server.base_url)
        wait()
