"""Sides to compare: built by hand, or a mock server with vLLM's routes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, Script
from pytest_llmengine.parity import Live, ParityPrompt, Side
from pytest_llmengine.parity.answers import ParityAnswer, Token
from pytest_llmengine.parity.setup import Facts
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_OURS = ("LLMENGINE_", "VLLM_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of the developer's shell that engines read."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def recorded() -> Path:
    """The folder of recorded candidates."""
    return Path(__file__).parent / "recorded"


def make_prompt(number: int = 1, **fields: Any) -> ParityPrompt:
    """A prompt; other numbers make other prompts."""
    asked = ({"role": "user", "content": f"Question {number}?"},)
    known = {"id": f"p{number}", "kind": "chat", "messages": asked, "max_tokens": 8}
    return ParityPrompt(**{**known, **fields})


def make_answer(text: str = "one two three", number: int = 1, **fields: Any) -> ParityAnswer:
    """An answer whose tokens are its words, each the likeliest, with a plausible second."""
    words = text.split()
    logprobs = fields.pop("logprobs", [-0.1] * len(words))
    known = {
        "id": f"p{number}",
        "text": text,
        "token_ids": tuple(sum(word.encode()) for word in words),
        "prompt_token_ids": (1, 2, number),
        "tokens": tuple(
            Token(word, value, ((word, value), ("other", -3.0)))
            for word, value in zip(words, logprobs, strict=True)
        ),
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": len(words),
    }
    return ParityAnswer(**{**known, **fields})


def make_side(
    answers: Sequence[ParityAnswer],
    prompts: Sequence[ParityPrompt] = (),
    again: Sequence[Sequence[ParityAnswer]] | None = None,
    **facts: Any,
) -> Side:
    """A measured side; ``again`` has its answers in further passes, which are three equal ones."""
    asked = tuple(prompts) or tuple(make_prompt(n) for n in range(1, len(answers) + 1))
    others = [answers] * 3 if again is None else again
    return Side(
        name="hand-made",
        facts=Facts(**facts),
        prompts=asked,
        answers=tuple(answers),
        again=tuple(zip(*others, strict=True)) if others else (),
        groups=tuple(range(len(asked))),
        batch=1,
        date="2026-11-22",
        tool_version="test",
    )


@pytest.fixture
def prompt() -> Callable[..., ParityPrompt]:
    """Makes prompts."""
    return make_prompt


@pytest.fixture
def answer() -> Callable[..., ParityAnswer]:
    """Makes answers."""
    return make_answer


@pytest.fixture
def side() -> Callable[..., Side]:
    """Makes measured sides."""
    return make_side


@pytest.fixture
def serve() -> Iterator[Callable[..., MockServer]]:
    """Starts mock servers, which have vLLM's routes too."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour | None = None, script: Script | None = None) -> MockServer:
            return stack.enter_context(MockServer(behaviour=behaviour, script=script))

        yield start


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """Opens a mock server as a vLLM."""
    with ExitStack() as stack:

        def aim(server: MockServer, **options: Any) -> Live:
            settings = Settings(engines=("vllm_api",), url=server.base_url, mode=Mode.LIVE)
            return Live(stack.enter_context(open_session("vllm_api", settings)), **options)

        yield aim
