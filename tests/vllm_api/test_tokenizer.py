"""The tokenizer of a real vLLM server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig, InvalidRequestError, NotFoundError, SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine

MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is the capital of France?"},
]


def weather(city: str) -> str:
    """The weather of a city."""
    return city


def test_a_text_comes_back_from_its_tokens(live: Engine) -> None:
    """A text is tokenized without a template."""
    tokens = live.tokenize("Hello world, grüß dich")
    assert tokens.count == len(tokens.token_ids) > 4
    assert tokens.max_model_len == live.fingerprint().max_model_len
    assert live.detokenize(tokens.token_ids) == "Hello world, grüß dich"


@pytest.mark.parametrize(
    "options", [{}, {"tools": [weather]}, {"reasoning": "low"}, {"reasoning": False}]
)
def test_messages_have_the_tokens_of_the_chat(live: Engine, options: dict[str, Any]) -> None:
    """The count is that of a chat with the same options."""
    asked = SamplingParams(max_tokens=1, return_token_ids=True)
    (output,) = live.generate(MESSAGES, asked, **options)
    assert live.tokenize(MESSAGES, **options).token_ids == output.prompt_token_ids


def test_async_callers_get_the_same(live: Engine) -> None:
    """Both directions have an async version."""

    async def there_and_back() -> str:
        return await live.adetokenize((await live.atokenize("Hello world")).token_ids)

    assert asyncio.run(there_and_back()) == "Hello world"


def test_options_beside_a_text_are_refused(live: Engine) -> None:
    """A text cannot have tools, so they are not silently dropped."""
    with pytest.raises(InvalidRequestError, match="give it as a message"):
        live.tokenize("Hello", tools=[weather])


def test_an_unknown_model_is_named(live: Engine) -> None:
    """The message is the server's and names the model."""
    engine = EngineConfig(backend="vllm_api", model="no-such", endpoint=live.endpoint).engine
    with pytest.raises(NotFoundError, match="no-such"):
        engine.tokenize("Hello")
