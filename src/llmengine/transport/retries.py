"""When to try again, and when that would only cost."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, TypeVar

import stamina

from llmengine.values.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("llmengine")

T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# A server that asks for more than this is not busy but closed: giving up at once says so.
LONGEST_RETRY_AFTER = 120.0


def worth_retrying(error: Exception) -> bool:
    """Whether the same request may be answered later."""
    if not isinstance(error, CallError) or not error.retryable:
        return False
    return (error.retry_after or 0.0) <= LONGEST_RETRY_AFTER


def wait_before(attempt: int, error: CallError) -> float:
    """Seconds to wait before that attempt (the second is 2): full jitter, Retry-After a floor."""
    ceiling = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 2))
    jitter = random.uniform(0.0, ceiling)  # noqa: S311 - not a secret
    return (error.retry_after or 0.0) + jitter


async def with_retries(once: Callable[[], Awaitable[T]], max_retries: int) -> tuple[T, int]:
    """What `once` gives, tried again as long as it is worth it, and the number of attempts.

    The error of the last attempt is raised, with its ``attempts`` set. The first attempt runs
    outside stamina's machinery, which would cost more than the request itself; its failure is
    handed to stamina as the first one.
    """
    try:
        return await once(), 1
    except CallError as error:
        if max_retries == 0 or not worth_retrying(error):
            raise
        failure: CallError | None = error

    attempts = 1

    def backoff(error: Exception) -> bool | float:
        if not worth_retrying(error):
            return False
        assert isinstance(error, CallError)
        wait = wait_before(attempts + 1, error)
        log.info("attempt %d failed, the next in %.2f s: %s", attempts, wait, error)
        return wait

    try:
        async for attempt in stamina.retry_context(
            on=backoff, attempts=1 + max_retries, timeout=None
        ):
            with attempt:
                if failure is not None:
                    first, failure = failure, None
                    raise first
                attempts += 1
                return await once(), attempts
    except CallError as error:
        error.attempts = attempts
        raise
    raise AssertionError  # stamina ends by returning or raising
