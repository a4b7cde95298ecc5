"""Channel: nothing is lost between threads, and every wait ends."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import CallError
from llmengine.engine.channel import Channel
from llmengine.engine.sync import LoopWakeup, ThreadWakeup, await_on, block_on, run
from llmengine.transport.loop import background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COUNT = 5000


@pytest.fixture(params=["thread", "loop"])
def consume(request: Any, in_thread: Any) -> Callable[[Callable[[Any], Awaitable[Any]]], Any]:
    """Runs a consumer, which gets its Wait, in a thread or in an event loop of its own."""

    def in_one(consumer: Callable[[Any], Awaitable[Any]]) -> Any:
        if request.param == "thread":
            return in_thread(lambda: run(consumer(block_on))).result(60)
        return in_thread(lambda: asyncio.run(consumer(await_on))).result(60)

    return in_one


async def _all(channel: Channel[int]) -> list[list[int]]:
    taken = []
    while items := await channel.take():
        taken.append(items)
    return taken


@pytest.mark.parametrize("size", [None, 1, 16])
def test_all_items_arrive_once_and_in_order(consume: Any, size: int | None) -> None:
    """Whatever the producer does between two items, and however many may wait."""
    chance = random.Random(size)
    numbers = iter(range(COUNT))

    async def produce(channel: Channel[int]) -> None:
        while burst := list(islice(numbers, chance.randrange(1, 4))):
            channel.put(burst)
            if chance.random() < 0.3:
                await asyncio.sleep(0)
            while channel.is_full:
                await channel.room()

    async def consumer(wait: Any) -> list[list[int]]:
        channel: Channel[int] = Channel(wait.wakeup(background().loop), size)
        channel.start(background(), partial(produce, channel))
        return await _all(channel)

    taken = consume(consumer)

    assert [n for items in taken for n in items] == list(range(COUNT))
    if size is not None:
        assert max(map(len, taken)) < size + 3


def test_tasks_of_one_loop_are_all_woken(in_thread: Any) -> None:
    """Many channels, whose tasks are woken in one call of their loop."""

    async def produce(channel: Channel[int]) -> None:
        for number in range(50):
            channel.put([number])
            await asyncio.sleep(0)

    async def one() -> int:
        wakeup = LoopWakeup(asyncio.get_running_loop(), producer=background().loop)
        channel: Channel[int] = Channel(wakeup)
        channel.start(background(), partial(produce, channel))
        return sum(map(len, await _all(channel)))

    async def main() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(40)))

    assert in_thread(lambda: asyncio.run(main())).result(60) == [50] * 40


def test_error_of_the_producer_comes_after_its_items(consume: Any) -> None:
    """Everything that was put before is taken first."""

    async def produce(channel: Channel[int]) -> None:
        channel.put([1])
        await asyncio.sleep(0)
        channel.put([2])
        raise CallError("broken")

    async def consumer(wait: Any) -> tuple[list[int], str]:
        channel: Channel[int] = Channel(wait.wakeup(background().loop))
        channel.start(background(), partial(produce, channel))
        taken: list[int] = []
        try:
            while items := await channel.take():
                taken += items
        except CallError as error:
            return taken, str(error)
        raise AssertionError

    assert consume(consumer) == ([1, 2], "broken")


def test_consumer_that_closes_cancels_a_waiting_producer(consume: Any, wait_until: Any) -> None:
    """What waits is dropped, and so is what the producer still puts."""
    states: list[str] = []

    async def produce(channel: Channel[int]) -> None:
        channel.put([1, 2])
        states.append("full")
        try:
            await channel.room()
            await asyncio.sleep(60)
        finally:
            channel.put([3])
            states.append("ended")

    async def consumer(wait: Any) -> list[int]:
        channel: Channel[int] = Channel(wait.wakeup(background().loop), 1)
        channel.start(background(), partial(produce, channel))
        wait_until(lambda: states)
        channel.close()
        wait_until(lambda: len(states) == 2)
        return await channel.take()

    assert consume(consumer) == []


def test_take_ends_after_its_seconds(consume: Any) -> None:
    """It is empty then, and the next one gets what came in the meantime."""

    async def produce(channel: Channel[int], ready: asyncio.Event) -> None:
        await ready.wait()
        channel.put([1])

    async def consumer(wait: Any) -> list[list[int]]:
        loop = background().loop
        channel: Channel[int] = Channel(wait.wakeup(loop))
        ready = asyncio.Event()
        channel.start(background(), partial(produce, channel, ready))
        first = await channel.take(0.001)
        loop.call_soon_threadsafe(ready.set)
        return [first, await channel.take()]

    assert consume(consumer) == [[], [1]]


def test_cancelled_consumer_can_take_again(in_thread: Any) -> None:
    """Nothing is lost by a wait that was cancelled."""

    async def produce(channel: Channel[int], ready: asyncio.Event) -> None:
        await ready.wait()
        channel.put([1])

    async def main() -> list[int]:
        loop = background().loop
        wakeup = LoopWakeup(asyncio.get_running_loop(), producer=loop)
        channel: Channel[int] = Channel(wakeup)
        ready = asyncio.Event()
        channel.start(background(), partial(produce, channel, ready))
        task = asyncio.create_task(channel.take())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        loop.call_soon_threadsafe(ready.set)
        return await channel.take()

    assert in_thread(lambda: asyncio.run(main())).result(60) == [1]


def _take_in_child(channel: Channel[int], answers: Any) -> None:
    try:
        run(channel.take())
    except CallError as error:
        answers.put(str(error))


def test_forked_child_does_not_wait_for_its_parent(wait_until: Any) -> None:
    """No thread of the child would ever wake it."""
    channel: Channel[int] = Channel(ThreadWakeup())
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    child = context.Process(target=_take_in_child, args=(channel, answers))
    child.start()

    assert "before a fork" in answers.get(timeout=60)
    child.join(60)
