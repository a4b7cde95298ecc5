"""The run of ``llmengine cassettes verify``: open the engine, and send it what was recorded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from pytest_llmengine.recording.answer_value import parsed
from pytest_llmengine.recording.cassette_file import CassetteFile, cassette_files
from pytest_llmengine.recording.record import Upstream
from pytest_llmengine.recording.verification import LiveServer, Resender, verify
from pytest_llmengine.targets import Mode, Settings, TargetError, config_named, open_session
from pytest_llmengine.targets.plan import split_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_llmengine.recording.comparison import Comparison
    from pytest_llmengine.recording.config import RecordingConfig


def verify_live(  # noqa: PLR0913 - the options of the command
    place: Path,
    *,
    engine: str | None,
    url: str | None,
    model: str | None,
    headers: Mapping[str, str],
    config: Path | None,
    seconds: float,
    recording: RecordingConfig,
) -> list[Comparison]:
    """Compare every exchange of the cassettes with the answer of an engine's server.

    `recording` says which parts of answers are volatile. The server is asked for one token first,
    so that a wrong address, key or model is one error.
    """
    files = [CassetteFile.read(path) for path in cassette_files(place)]
    name = engine or ("openai_compatible" if url else _engine_of(place, config))
    settings = Settings(
        engines=(name,),
        url=url,
        model=model,
        fallback_model=_recorded_model(files),
        by_address=url is not None and engine is None,
        headers=headers,
        config=config,
        mode=Mode.LIVE,
    )
    with open_session(name, settings) as session:
        _ = session.target  # raises TargetError for an engine without a server
        backend = session.engine.backend
        live = LiveServer(Upstream.parse(split_endpoint(backend.endpoint)[0]), model, seconds)
        resender = Resender(backend.address.headers, backend.address.query)
        return asyncio.run(_all(files, live, resender, recording))


async def _all(
    files: Sequence[CassetteFile], live: LiveServer, resender: Resender, recording: RecordingConfig
) -> list[Comparison]:
    return [found for file in files async for found in verify(file, live, resender, recording)]


def _engine_of(place: Path, config: Path | None) -> str:
    """The engine whose recordings these are by the name of their folder."""
    name = place.resolve().name.removesuffix(".zip")
    try:
        config_named(name, config)
    except TargetError:
        raise typer.BadParameter(
            f"{name!r} is not the name of an engine, so give --url or --engine"
        ) from None
    return name


def _recorded_model(files: Sequence[CassetteFile]) -> str | None:
    """The model that the first recorded request with one has asked for."""
    for file in files:
        for exchange in file.exchanges:
            body = parsed(exchange.request.body or b"")
            if isinstance(body, dict) and isinstance(body.get("model"), str):
                return str(body["model"])
    return None
