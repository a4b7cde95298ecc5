"""Hundreds of requests in flight at once: each gets its own answer, live and in the replay."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp

from pytest_llmengine.recording import RecordServer, ReplayServer
from pytest_llmengine.recording.http import LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.recording.http import ClientConnection, Request

# 75 different requests as streams and whole, and one request 50 times.
BODIES = [{"n": n, "stream": stream} for n in range(75) for stream in (True, False)]
BODIES += [{"n": "same", "stream": True}] * 50


class Crowd:
    """Answers no request before all have arrived, and then the last one first.

    An answer is the body of its request and a number, in one piece or in chunks of 9 bytes.
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Event] = []

    async def __call__(self, request: Request, client: ClientConnection) -> None:
        """Answer one request."""
        mine, number = asyncio.Event(), len(self._waiting)
        self._waiting.append(mine)
        if len(self._waiting) == len(BODIES):
            mine.set()
        await mine.wait()
        text = json.dumps([json.loads(request.body), number]).encode()
        size = 9 if b'"stream": true' in request.body else len(text)
        await client.head(200, "OK", (("transfer-encoding", "chunked"),))
        for start in range(0, len(text), size):
            await client.chunk(text[start : start + size])
            await asyncio.sleep(0)
        await client.end()
        if number:
            self._waiting[number - 1].set()


async def _ask_all(root_url: str) -> list[Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(body: dict[str, Any]) -> Any:
            async with session.post(f"{root_url}/v1/chat", json=body) as answer:
                return json.loads(await answer.read())

        return await asyncio.gather(*map(ask, BODIES))


def test_answers_are_not_swapped(tmp_path: Path) -> None:
    """Streams and whole answers; the same request gets each of its answers once, in any order."""
    upstream = LoopbackServer(Crowd())
    upstream.start()
    path = tmp_path / "crowd.yaml"
    try:
        with RecordServer(upstream.root_url) as recorder, recorder.cassette(path):
            live = asyncio.run(_ask_all(recorder.root_url))
    finally:
        upstream.stop()
    with ReplayServer() as player, player.cassette(path) as cassette:
        replayed = asyncio.run(_ask_all(player.root_url))

    assert [asked for asked, _ in live] == [asked for asked, _ in replayed] == BODIES
    different = [number for asked, number in live if asked["n"] != "same"]
    assert [number for asked, number in replayed if asked["n"] != "same"] == different
    assert Counter(number for _, number in replayed) == Counter(range(len(BODIES)))
    assert (cassette.unhandled, cassette.unused) == ([], [])
