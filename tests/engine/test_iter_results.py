"""iter_results takes any iterable, keeps its order and reads only as far ahead as its window."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def echo(engine_for: Any, chat: Any) -> Any:
    """An engine whose server answers with the prompt in capitals, even numbers slowly."""

    def handler(request: Any, connection: Any) -> None:
        text = request.json["messages"][-1]["content"]
        connection.pause(0.01 if text.endswith("0") else 0)
        connection.reply(chat(text.upper()))

    return engine_for(handler)


def _text(result: Any) -> str:
    return str(result.unwrap().outputs[0].text)


def test_results_come_in_order(echo: Any) -> None:
    """Results follow the prompts, however long each one takes."""
    engine, _ = echo

    results = engine.iter_results((f"p{i}" for i in range(60)), window=7)

    assert [_text(r) for r in results] == [f"P{i}" for i in range(60)]


def test_prompts_are_drawn_as_results_are_read(echo: Any) -> None:
    """An endless source works: at most a window of prompts is started and unread."""
    engine, server = echo
    drawn = []
    thread = []

    def endless() -> Iterator[str]:
        while True:
            thread.append(threading.get_ident())
            drawn.append(len(drawn))
            yield f"p{len(drawn)}"

    results = engine.iter_results(endless(), window=5)
    read = [_text(next(results)) for _ in range(10)]
    results.close()

    assert read == [f"P{i}" for i in range(1, 11)]
    assert len(drawn) == 14
    assert set(thread) == {threading.get_ident()}
    assert len(server.requests) <= 14


def test_wrong_prompt_does_not_end_the_iteration(echo: Any) -> None:
    """Its result holds the error, with its index among the prompts."""
    engine, _ = echo

    results = list(engine.iter_results(["a", 7, "c"]))

    assert [r.ok for r in results] == [True, False, True]
    assert "prompt 1" in str(results[1].error)


def test_async_source_and_async_reader(echo: Any) -> None:
    """``aiter_results`` takes an async iterable of prompts."""
    engine, _ = echo

    async def source() -> AsyncIterator[str]:
        for i in range(20):
            await asyncio.sleep(0)
            yield f"p{i}"

    async def main() -> list[str]:
        return [_text(r) async for r in engine.aiter_results(source(), window=4)]

    assert asyncio.run(main()) == [f"P{i}" for i in range(20)]


class _Broken(list[Any]):
    """A list of messages that cannot be read."""

    def __iter__(self) -> Iterator[Any]:
        raise ValueError("broken messages")


@pytest.mark.parametrize("call", ["results", "iter_results"])
def test_prompt_that_cannot_be_read_fails_alone(echo: Any, call: str) -> None:
    """Requests are made while others are sent, so an error at one must not end the others."""
    engine, _ = echo

    results = list(getattr(engine, call)(["a", _Broken([{"role": "user"}]), "c"]))

    assert [result.ok for result in results] == [True, False, True]
    assert "broken messages" in str(results[1].error)


def test_requests_are_made_when_they_are_sent(echo: Any) -> None:
    """Many prompts become requests one after the other, so their requests never fill the memory."""
    engine, server = echo
    read: list[int] = []

    class Noted(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            read.append(len(server.requests))  # the requests that were sent before this one
            return super().__iter__()

    prompts = [Noted([{"role": "user", "content": f"p{i}"}]) for i in range(300)]

    results = engine.results(prompts)

    assert all(result.ok for result in results)
    assert read[-1] >= 300 - 2 * engine.backend.concurrency
