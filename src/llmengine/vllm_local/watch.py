"""Notices the death of the process that vLLM works in, where it has one of its own."""

from __future__ import annotations

import asyncio
from typing import Any

_SECONDS = 1.0


async def watch(client: Any) -> None:
    """Wake whoever waits for that process once it is dead; `client` is vLLM's own of it.

    A process that is killed leaves no last word, and vLLM (0.12 to 0.32) notes its death without
    telling the thread that waits for its next step, which would wait for ever.
    """
    while not client.resources.engine_dead:  # noqa: ASYNC110 - vLLM sets a flag alone
        await asyncio.sleep(_SECONDS)
    client.outputs_queue.put_nowait(RuntimeError("the process that vLLM works in is dead"))
