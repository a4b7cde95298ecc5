"""``llmengine record`` and ``llmengine replay``: the recording proxy, for any program."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli.options import (
    AllowHostOption,
    CorsOption,
    HeaderOption,
    IgnorePathOption,
    MatchOnOption,
    NormalizeOption,
    stderr,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.recording import RecordCassette, RecordingOptions


class RecordModeName(StrEnum):
    """What happens to a cassette that exists; the names are vcrpy's."""

    NONE = "none"
    ONCE = "once"
    NEW_EPISODES = "new_episodes"
    ALL = "all"


class ExpiredName(StrEnum):
    """What happens to a cassette that is too old."""

    WARN = "warn"
    FAIL = "fail"


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
    record_mode: Annotated[
        RecordModeName,
        typer.Option(
            help="What happens to a .yaml file that exists: all replaces it, new_episodes answers "
            "from it and adds other requests, once and none only answer from it."
        ),
    ] = RecordModeName.ALL,
    ignore_path: IgnorePathOption = None,
    normalize: NormalizeOption = None,
    match_on: MatchOnOption = None,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Forward requests to a server until Ctrl-C, and record the exchanges without keys.

    Prints the address for clients first. Exit status: 1 if an exchange was not recorded.
    """
    from pytest_llmengine.recording import Provenance, RecordServer
    from pytest_llmengine.targets.headers import parse_headers

    facts = Provenance(engine=engine, version=version, model=model)
    if record_mode is not RecordModeName.ALL and to.suffix != _YAML:
        raise typer.BadParameter(
            f"--record-mode {record_mode} goes with a .yaml file, not a folder"
        )
    file = _file(to)
    _refuse_part(file)
    replaces = file.exists()
    server = RecordServer(
        upstream,
        facts,
        port=port,
        allowed_hosts=allow_host or (),
        cors=cors or (),
        headers=parse_headers(header or ()),
        **_matching(ignore_path, normalize, match_on) | {"record_mode": record_mode.value},
    )
    with (
        until_signal() as wait,
        server as proxy,
        proxy.cassette(file) as cassette,
    ):
        typer.echo(proxy.root_url)
        wait()
    if len(cassette):
        stderr().print(_saved(cassette, replaces=replaces), soft_wrap=True)
    _exit_with_misses(cassette.unhandled, "not recorded")


def replay(  # noqa: PLR0913 - one option each
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
    ignore_path: IgnorePathOption = None,
    normalize: NormalizeOption = None,
    match_on: MatchOnOption = None,
    max_age: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="DAYS", help="The largest age of a recording.", show_default="any"
        ),
    ] = None,
    expired: Annotated[
        ExpiredName, typer.Option(help="What to do if a recording is older.")
    ] = ExpiredName.WARN,
    allow_host: AllowHostOption = None,
    cors: CorsOption = None,
) -> None:
    """Answer requests from recordings until Ctrl-C, without any server.

    Prints the address for clients first. Exit status: 1 if a request was not recorded.
    """
    from pytest_llmengine.recording import ReplayServer

    options: RecordingOptions = {
        "repeats": repeats,
        "max_age": max_age,
        "expired": expired.value,
    }
    server = ReplayServer(
        port=port,
        allowed_hosts=allow_host or (),
        cors=cors or (),
        **_matching(ignore_path, normalize, match_on) | options,
    )
    with (
        _printed_warnings(),
        until_signal() as wait,
        server as proxy,
        proxy.cassette(recordings) as cassette,
    ):
        stderr().print(f"replaying {cassette.provenance.describe()}", soft_wrap=True)
        typer.echo(proxy.root_url)
        wait()
    _exit_with_misses(cassette.unhandled, "not in the recording")


def _matching(
    ignore_path: list[str] | None, normalize: list[str] | None, match_on: list[str] | None
) -> RecordingOptions:
    """The options for the comparison of requests that were given."""
    sys.path.insert(0, "")  # package.module:function is searched in the working directory too
    options: RecordingOptions = {
        "ignore_paths": ignore_path or [],
        "normalize": list(normalize or ()),
    }
    return options | {"match_on": list(match_on)} if match_on else options


def _refuse_part(file: Path) -> None:
    """Raise CassetteError if an unfinished recording of this file would be lost."""
    from pytest_llmengine.recording import CassetteError
    from pytest_llmengine.recording.record_cassette import part_of

    if (part := part_of(file)).exists():
        raise CassetteError(
            f"{part} holds what an earlier run has recorded for {file}; rename it to {file.name} "
            "to keep it, or delete it"
        )


def _saved(cassette: RecordCassette, *, replaces: bool) -> str:
    """Save what was recorded, if that was not done when the cassette was closed, and say where.

    A cassette with requests that were not recorded is not written then. If there was no file
    before, the rest is worth saving.
    """
    if cassette.unhandled and replaces:
        return cassette.not_replaced
    if cassette.unhandled:
        cassette.write()
    count = "1 exchange" if len(cassette) == 1 else f"{len(cassette)} exchanges"
    return f"{count} recorded in {cassette.path}"


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print the warnings about old recordings as lines of this command."""
    from pytest_llmengine.recording import CassetteExpiredWarning

    def show(message: Warning | str, *_args: object, **_options: object) -> None:
        stderr().print(f"warning: {message}", soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CassetteExpiredWarning)
        warnings.showwarning = show
        yield


_YAML = ".yaml"


def _file(to: Path) -> Path:
    """The file itself, or a file in the folder, named by the time so that none is overwritten."""
    if to.suffix == _YAML:
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
