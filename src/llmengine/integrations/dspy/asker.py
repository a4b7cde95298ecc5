"""An engine, as the language models of every DSPy ask it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic_core import to_json

from llmengine.config.engine import EngineConfig
from llmengine.types.errors import StructuredOutputError
from llmengine.types.request import Capability
from llmengine.types.secrets import holds_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.question import Question
    from llmengine.types.outputs import Delta, LLMOutput, Result
    from llmengine.types.request import Prompt

# Fields of a configuration that change what the same prompt is answered with.
_TELLING = frozenset({"sampling", "extra_body", "reasoning", "structured", "options"})
_SECRET = frozenset({"api_key", "headers"})
# Fields that are saved with the keys in them masked.
_MASKED = ("endpoint", "extra_body", "options")

log = logging.getLogger("llmengine")


class Asker:
    """Asks one engine, and is the same object in every copy of a language model.

    A program is copied again and again by DSPy's optimizers; the engine with its connections, and
    a mock's own server, must not be.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def identity(self) -> str:
        """The model, its server, and a digest of what else decides over answers.

        DSPy's caches key answers by the model's name and know nothing of addresses, so this is
        what keeps those of two servers apart.
        """
        if self.engine.in_process:
            where = self.engine.backend
        else:
            where = urlsplit(self.engine.root_url).netloc.rpartition("@")[2]
        told = self.engine.config.model_dump(include=set(_TELLING), exclude_defaults=True)
        changed = {name: value for name, value in told.items() if value != {}}
        mark = f"#{hashlib.sha256(to_json(changed)).hexdigest()[:8]}" if changed else ""
        return f"{self.engine.model}@{where}{mark}"

    def ask(self, question: Question) -> LLMOutput:
        """The answers to a question; raises CallError, or InvalidRequestError unsent."""
        prompts, sampling = self._spread(question)
        return _joined(self.engine.results(prompts, sampling, **question.options))

    async def aask(self, question: Question) -> LLMOutput:
        """`ask` for a running event loop."""
        prompts, sampling = self._spread(question)
        return _joined(await self.engine.aresults(prompts, sampling, **question.options))

    def stream(self, question: Question) -> Iterator[Delta]:
        """The answer as it is generated; one that fits no schema ends like any other."""
        try:
            yield from self.engine.stream(question.prompt, question.sampling, **question.options)
        except StructuredOutputError:
            return  # what came is with the reader, whose parser says what is wrong with it

    async def astream(self, question: Question) -> AsyncIterator[Delta]:
        """`stream` for a running event loop."""
        deltas = self.engine.astream(question.prompt, question.sampling, **question.options)
        try:
            async for delta in deltas:
                yield delta
        except StructuredOutputError:
            return  # as above

    def _spread(self, question: Question) -> tuple[list[Prompt], Any]:
        """One prompt with ``n``; where the server has no ``n``, as many prompts."""
        if question.count == 1 or Capability.N in self.engine.capabilities:
            return [question.prompt], question.sampling
        return [question.prompt] * question.count, replace(question.sampling, n=None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def dump(self) -> dict[str, Any]:
        """The configuration as JSON values, without what may hold a secret."""
        config = self.engine.config
        held = {name for name in _SECRET if getattr(config, name)}
        held |= {f"keys in {name}" for name in _MASKED if holds_secret(getattr(config, name))}
        if held:
            log.warning("engine %r: saved without its %s", config.name, " and ".join(sorted(held)))
        return config.model_dump(mode="json", exclude=set(_SECRET), exclude_defaults=True)

    @classmethod
    def load(cls, state: dict[str, Any]) -> Self:
        """The asker of a dumped configuration; a key must be found by ``api_key_env``."""
        return cls(EngineConfig(**state).engine)


def _joined(results: list[Result]) -> LLMOutput:
    """All answers as those to one prompt, with the tokens of every attempt."""
    outputs = [_settled(result) for result in results]
    answers = [answer for output in outputs for answer in output.outputs]
    numbered = tuple(replace(answer, index=place) for place, answer in enumerate(answers))
    usage = results[0].usage
    for result in results[1:]:
        usage = usage + result.usage if usage and result.usage else usage or result.usage
    return replace(outputs[0], outputs=numbered, usage=usage)


def _settled(result: Result) -> LLMOutput:
    """The output, also one that does not fit its schema: DSPy's parser has words for that."""
    error = result.error
    if isinstance(error, StructuredOutputError) and error.partial is not None:
        return error.partial
    output = result.unwrap()
    if output.schema_strategy in {None, "json_schema"}:
        return output
    # Below the server's own constraint the JSON may stand amid prose or in a fence.
    return replace(
        output,
        outputs=tuple(replace(a, text=to_json(a.parsed).decode()) for a in output.outputs),
    )
