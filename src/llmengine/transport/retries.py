"""When to try again, and when that would only cost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, TypeVar

from llmengine.types.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("llmengine")

T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# A server that asks for more than this is not busy but closed: giving up at once says so.
LONGEST_RETRY_AFTER = 120.0


def wait_before(
    attempt: int,
    error: CallError,
    first_wait: float = FIRST_WAIT,
    patience: float = LONGEST_RETRY_AFTER,
) -> float:
    """Seconds to wait before that attempt (the second is 2): full jitter, Retry-After a floor.

    It is never more than `patience`.
    """
    ceiling = min(LONGEST_WAIT, first_wait * 2.0 ** (attempt - 2))
    jitter = random.uniform(0.0, ceiling)  # nosec B311  # noqa: S311 - not a secret
    return min((error.retry_after or 0.0) + jitter, patience)


async def with_retries(
    once: Callable[[], Awaitable[T]],
    max_retries: int,
    first_wait: float = FIRST_WAIT,
    patience: float = LONGEST_RETRY_AFTER,
) -> T:
    """What `once` gives, tried again as long as it is worth it; else its last error.

    ``first_wait`` is the longest wait before the second attempt, in seconds; it doubles from
    attempt to attempt. A server that asks to wait longer than ``patience`` seconds is given up.

    A plain loop, because stamina's costs a hundred times its CPU, on calls that never fail too,
    and warns in the log of every user; ``BENCHMARK.md`` has the numbers.
    """
    for attempt in itertools.count(1):
        try:
            return await once()
        except CallError as error:
            error.attempts = attempt
            if not error.retryable:
                raise
            if error.retry_after is not None and error.retry_after > patience:
                error.advise(
                    f"the server asks to wait {error.retry_after:g} s, more than the "
                    f"{patience:g} s that timeout.wait allows"
                )
                raise
            if attempt > max_retries:
                raise
            wait = wait_before(attempt + 1, error, first_wait, patience)
            log.info("attempt %d failed, the next in %.2f s: %s", attempt, wait, error.label)
            log.debug("attempt %d failed: %s", attempt, error)
        await asyncio.sleep(wait)
    raise AssertionError  # the loop ends by returning or raising
