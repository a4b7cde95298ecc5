"""One implementation for sync and async callers.

Every public operation is written once, as a coroutine or an async generator, and waits for the
background loop through a `wait` function. With `await_on` it suspends in the caller's event loop.
With `block_on` it blocks its thread and never suspends. So `run` and `iterate` can run it to its
end without an event loop, even inside a running one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from concurrent.futures import Future

    Wait = Callable[[Future[Any]], Awaitable[Any]]


T = TypeVar("T")


async def block_on(future: Future[Any]) -> Any:
    """The future's result, waited for by blocking; an interrupt of the thread cancels the work."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def await_on(future: Future[Any]) -> Any:
    """The future's result, awaited; cancelling the waiting task cancels the work."""
    return await asyncio.wrap_future(future)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The return value of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    msg = "a blocking operation suspended; it must wait through block_on only"
    raise AssertionError(msg)


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items of an async generator that never suspends; it is closed if the caller stops."""
    try:
        while True:
            try:
                item = run(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(_close(items))


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()
