"""The same calls from threads, event loops, forked processes and pickled copies."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture
def echo(engine_for: Any, chat: Any) -> Any:
    """An engine whose server answers with the prompt in capitals."""

    def handler(request: Any, connection: Any) -> None:
        connection.reply(chat(request.json["messages"][-1]["content"].upper()))

    return engine_for(handler)


def _texts(outputs: Any) -> list[str]:
    return [o.outputs[0].text for o in outputs]


def test_async_calls_answer_as_sync_ones_do(echo: Any) -> None:
    """``agenerate`` and ``aresults`` give what ``generate`` and ``results`` give."""
    engine, _ = echo

    async def both() -> tuple[Any, Any]:
        return await engine.agenerate(["a", "b"]), await engine.aresults(["c"])

    outputs, results = asyncio.run(both())

    assert _texts(outputs) == ["A", "B"]
    assert results[0].unwrap().outputs[0].text == "C"


def test_event_loops_may_come_and_go(echo: Any) -> None:
    """One engine serves several asyncio.run in turn: no connection is bound to a closed loop."""
    engine, _ = echo

    assert [_texts(asyncio.run(engine.agenerate(["a"]))) for _ in range(3)] == [["A"]] * 3


def test_sync_call_inside_a_running_loop(echo: Any) -> None:
    """``generate`` works where asyncio.run would fail, as in a notebook."""
    engine, _ = echo

    async def main() -> Any:
        return engine.generate(["a"])

    assert _texts(asyncio.run(main())) == ["A"]


def test_many_threads_share_one_engine(echo: Any) -> None:
    """Every thread gets its own answers."""
    engine, _ = echo

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: _texts(engine.generate([f"p{i}"])), range(40)))

    assert answers == [[f"P{i}"] for i in range(40)]


def test_concurrency_is_held_across_threads(engine_for: Any, chat: Any) -> None:
    """max_concurrency holds for the engine, however many batches run at once."""
    lock = threading.Lock()
    in_flight: list[int] = [0]
    most: list[int] = [0]
    three = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        with lock:
            in_flight[0] += 1
            most[0] = max(most[0], in_flight[0])
            if most[0] >= 3:
                three.set()
        three.wait(30)
        connection.pause(0.02)  # for a fourth request to arrive, if the limit does not hold
        with lock:
            in_flight[0] -= 1
        connection.reply(chat())

    engine, _ = engine_for(handler, max_concurrency=3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: engine.generate(["x"] * 5), range(4)))

    assert most[0] == 3


def test_clock_does_not_run_while_a_prompt_waits_its_turn(
    engine_for: Any, chat: Any, clock: Any
) -> None:
    """Three prompts one after the other take longer than the total of each, and all succeed."""

    def handler(_: Any, connection: Any) -> None:
        clock.advance(30)
        connection.reply(chat())

    engine, _ = engine_for(handler, max_concurrency=1, timeout=70)

    assert all(r.ok for r in engine.results(["a", "b", "c"]))


def _child(engine: Any, answers: Any) -> None:
    answers.put(_texts(engine.generate(["child"])))


def test_engine_works_after_a_fork(echo: Any) -> None:
    """A forked child opens its own connections and does not use the parent's."""
    engine, _ = echo
    engine.generate(["before"])
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    child = context.Process(target=_child, args=(engine, answers))
    child.start()

    assert answers.get(timeout=60) == ["CHILD"]
    child.join(60)
    assert child.exitcode == 0
    assert _texts(engine.generate(["after"])) == ["AFTER"]


def test_engine_pickles_by_its_configuration(echo: Any) -> None:
    """A copy that was pickled answers like the original."""
    engine, _ = echo

    copy = pickle.loads(pickle.dumps(engine))

    assert _texts(copy.generate(["a"])) == ["A"]


def test_cancelled_task_hangs_up(engine_for: Any, chat: Any) -> None:
    """Cancelling an async call closes its connection."""
    arrived, gone = threading.Event(), threading.Event()

    def handler(_: Any, connection: Any) -> None:
        arrived.set()
        try:
            if connection.sock.recv(1) == b"":
                gone.set()
        except OSError:
            gone.set()

    engine, _ = engine_for(handler)

    async def main() -> None:
        task = asyncio.create_task(engine.agenerate(["a"]))
        await asyncio.to_thread(arrived.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert gone.wait(30)


def test_async_stream_delivers_as_it_comes(engine_for: Any, chunk: Any) -> None:
    """``astream`` delivers as ``stream`` does."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Hel"), chunk("lo"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    async def main() -> str:
        return "".join([d.text async for d in engine.astream("hi")])

    assert asyncio.run(main()) == "Hello"
