"""``llmengine record`` and ``llmengine replay``: the recording proxy, for any program."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli.options import AllowHostOption, CorsOption, HeaderOption, stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Port = Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 chooses a free one.")]


def record(  # noqa: PLR0913 - one option each
    to: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder for a new file, or a .yaml file.")
    ],
    *,
    upstream: Annotated[
        str, typer.Option(help="The server to forward to, as http://host:port, without /v1.")
    ],
    port: Port = 0,
    engine: Annotated[
        str | None, typer.Option(help="The name of the server software, for the file.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Its version, for the file.")] = None,
    model: Annotated[str | None, typer.Option(help="Its model, for the file.")] = None,
    header: HeaderOption = None,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Forward requests to a server until Ctrl-C, and record the exchanges without keys.

    Prints the address for clients first. Exit status: 1 if an exchange was not recorded.
    """
    from pytest_llmengine.recording import Provenance, RecordServer
    from pytest_llmengine.targets.headers import parse_headers

    facts = Provenance(engine=engine, version=version, model=model)
    file = _file(to)
    server = RecordServer(
        upstream,
        facts,
        port=port,
        allowed_hosts=allow_host or (),
        cors=cors or (),
        headers=parse_headers(header or ()),
    )
    with (
        until_signal() as wait,
        server as proxy,
        proxy.cassette(file) as cassette,
    ):
        typer.echo(proxy.root_url)
        wait()
    if len(cassette):
        # A cassette with misses is not written when it is closed. Here, the rest is worth saving.
        cassette.write()
        count = "1 exchange" if len(cassette) == 1 else f"{len(cassette)} exchanges"
        stderr().print(f"{count} recorded in {file}", soft_wrap=True)
    _exit_with_misses(cassette.unhandled, "not recorded")


def replay(
    recordings: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of recordings, or one .yaml file.")
    ],
    *,
    port: Port = 0,
    repeats: Annotated[
        bool,
        typer.Option(
            "--repeats", help="Repeat the last answer to requests that were recorded less often."
        ),
    ] = False,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Answer requests from recordings until Ctrl-C, without any server.

    Prints the address for clients first. Exit status: 1 if a request was not recorded.
    """
    from pytest_llmengine.recording import ReplayServer

    server = ReplayServer(
        repeats=repeats, port=port, allowed_hosts=allow_host or (), cors=cors or ()
    )
    with (
        until_signal() as wait,
        server as proxy,
        proxy.cassette(recordings) as cassette,
    ):
        stderr().print(f"replaying {cassette.provenance.describe()}", soft_wrap=True)
        typer.echo(proxy.root_url)
        wait()
    _exit_with_misses(cassette.unhandled, "not in the recording")


def _file(to: Path) -> Path:
    """The file itself, or a file in the folder, named by the time so that none is overwritten."""
    if to.suffix == ".yaml":
        return to
    from datetime import UTC, datetime

    return to / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.yaml"


def _exit_with_misses(misses: list[str], what: str) -> None:
    for miss in misses:
        stderr().print(f"{what}: {miss}", soft_wrap=True)
    if misses:
        raise typer.Exit(1)


@contextmanager
def until_signal() -> Iterator[Callable[[], object]]:
    """A function that waits for Ctrl-C or SIGTERM.

    Inside the block neither of them raises, so that a server is closed properly and its recording
    is saved.
    """
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
