"""What can be asked of an engine's server besides answers to prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, Unpack, cast

from llmengine.engine.calls import Call
from llmengine.engine.configured import Configured
from llmengine.engine.doors import run, wait_asyncio, wait_blocking
from llmengine.engine.fingerprints import fingerprint_of
from llmengine.transport.loop import background
from llmengine.types.errors import InvalidRequestError, LLMEngineError, detached

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from llmengine.engine.doors import Wait
    from llmengine.engine.engine import Engine
    from llmengine.engine.requests import CallOptions, Options
    from llmengine.types.outputs import Fingerprint, Tokens
    from llmengine.types.request import Prompt

T = TypeVar("T")


class Tokenizer(Protocol):
    """How the tokenizer of a kind of server is asked."""

    async def tokenize(self, call: Call, prompt: Prompt, options: CallOptions) -> Tokens:
        """The tokens of a text as it is, or of messages as a chat with these options."""
        ...

    async def detokenize(self, call: Call, token_ids: Iterable[int]) -> str:
        """The text of token ids."""
        ...


class Inquiries(Configured):
    """The part of an engine that asks about the server itself, each time anew.

    A backend whose server can be asked for tokens sets ``tokenizer``.
    """

    tokenizer: ClassVar[Tokenizer | None] = None

    def fingerprint(self) -> Fingerprint:
        """Who answers: version, served model and what the server tells of it.

        Raises the CallError of a server that cannot be asked or refuses the key.
        """
        return run(self._aside(wait_blocking, self.identified))

    async def afingerprint(self) -> Fingerprint:
        """`fingerprint` for a running event loop."""
        return await self._aside(wait_asyncio, self.identified)

    def tokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """The token ids of a prompt, cut by the model that would answer it.

        A string is tokenized as it is; a list of messages as the chat that `generate` would send
        with the same options, its template included. Raises InvalidRequestError where the backend
        has no tokenizer that can be asked.
        """
        work = self._tokenizer.tokenize
        return run(self._aside(wait_blocking, lambda c: work(c, prompt, self._asked(options))))

    async def atokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """`tokenize` for a running event loop."""
        work = self._tokenizer.tokenize
        return await self._aside(wait_asyncio, lambda c: work(c, prompt, self._asked(options)))

    def detokenize(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; InvalidRequestError where the backend cannot be asked."""
        work = self._tokenizer.detokenize
        return run(self._aside(wait_blocking, lambda c: work(c, token_ids)))

    async def adetokenize(self, token_ids: Iterable[int]) -> str:
        """`detokenize` for a running event loop."""
        work = self._tokenizer.detokenize
        return await self._aside(wait_asyncio, lambda c: work(c, token_ids))

    async def identified(self, call: Call) -> Fingerprint:
        """`fingerprint`, on the loop; a backend that can tell more overrides this."""
        return await fingerprint_of(call)

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise InvalidRequestError(
                f"engine {self.name!r}: backend {self.backend!r} has no tokenizer that can be "
                "asked; vllm_api has"
            )
        return self.tokenizer

    async def _aside(self, wait: Wait, ask: Callable[[Call], Awaitable[T]]) -> T:
        engine = cast("Engine", self)  # nothing else is made of this class
        loop, url, origin = background(), self.url, self.root_url

        async def asked() -> T:
            try:
                return await ask(Call(engine, loop, url, origin))
            except LLMEngineError as error:
                raise detached(error)  # noqa: B904 - it is the error itself

        answer: T = await wait(loop.submit(asked()))
        return answer
