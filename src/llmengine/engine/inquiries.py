"""What can be asked of an engine's server besides answers to prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from llmengine.engine.calls import Call
from llmengine.engine.configured import Configured
from llmengine.engine.doors import run, wait_asyncio, wait_blocking
from llmengine.engine.fingerprints import fingerprint_of
from llmengine.transport.background import background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine.engine.doors import Wait
    from llmengine.engine.engine import Engine
    from llmengine.values.fingerprint import Fingerprint

T = TypeVar("T")


class Inquiries(Configured):
    """The part of an engine that asks about the server itself, each time anew."""

    def fingerprint(self) -> Fingerprint:
        """Who answers: version, served model and what the server tells of it.

        Raises the CallError of a server that cannot be asked or refuses the key.
        """
        return run(self._aside(wait_blocking, self.identified))

    async def afingerprint(self) -> Fingerprint:
        """`fingerprint` for a running event loop."""
        return await self._aside(wait_asyncio, self.identified)

    async def identified(self, call: Call) -> Fingerprint:
        """The fingerprint, found out on the loop; a backend that can tell more overrides this."""
        return await fingerprint_of(call)

    async def _aside(self, wait: Wait, ask: Callable[[Call], Awaitable[T]]) -> T:
        engine = cast("Engine", self)  # nothing else is made of this class
        loop, url, origin = background(), self.url, self.root_url

        async def asked() -> T:
            return await ask(Call(engine, loop, url, origin))

        answer: T = await wait(loop.submit(asked()))
        return answer
