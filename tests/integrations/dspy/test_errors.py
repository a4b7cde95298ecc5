"""Errors of the server become DSPy's own errors, and only the engine retries."""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

import llmengine
from llmengine.integrations.dspy import Generation, to_lm
from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig

# The fault, and the name of its error here, in litellm (2.5 to 3.3) and in DSPy (from 3.4).
CASES = [
    pytest.param(
        {"status": 429}, "RateLimitError", "RateLimitError", "LMRateLimitError", True, id="429"
    ),
    pytest.param(
        {"status": 500},
        "InternalServerError",
        "InternalServerError",
        "LMServerError",
        True,
        id="500",
    ),
    pytest.param(
        {"cut_after": 0},
        "APIConnectionError",
        "APIConnectionError",
        "LMTransportError",
        True,
        id="no answer",
    ),
    pytest.param(
        {"delay": 5.0}, "APITimeoutError", "Timeout", "LMTimeoutError", False, id="timeout"
    ),
    pytest.param(
        {"status": 401},
        "AuthenticationError",
        "AuthenticationError",
        "LMAuthError",
        False,
        id="401",
    ),
    pytest.param(
        {"status": 400},
        "BadRequestError",
        "BadRequestError",
        "LMInvalidRequestError",
        False,
        id="400",
    ),
    pytest.param(
        {"status": 404},
        "NotFoundError",
        "NotFoundError",
        "LMUnsupportedModelError",
        False,
        id="404",
    ),
]


@pytest.fixture
def kind_of(generation: Generation) -> Callable[[str, str, str], Any]:
    """The class of an error, by its name in each generation."""

    def find(ours: str, litellms: str, dspys: str) -> Any:
        if generation is Generation.LEGACY:
            return getattr(llmengine, ours)
        if generation is Generation.FORWARD:
            return getattr(pytest.importorskip("litellm"), litellms)
        return getattr(pytest.importorskip("dspy.utils.exceptions"), dspys)

    return find


def _failing(server: MockServer, fault: dict[str, Any]) -> None:
    server.play(Script(faults=repeat(Fault(**fault))))


@pytest.mark.parametrize(("fault", "ours", "litellms", "dspys", "is_retried"), CASES)
def test_a_failure_is_of_dspys_own_kind_and_retried_by_one(
    dspy: Any,
    server: MockServer,
    aim: Callable[..., EngineConfig],
    kind_of: Callable[[str, str, str], Any],
    fault: dict[str, Any],
    ours: str,
    litellms: str,
    dspys: str,
    is_retried: bool,
) -> None:
    """With two retries there are three requests, or one if a retry would be useless."""
    _failing(server, fault)
    lm = to_lm(aim(server, max_retries=2, timeout=0.3 if "delay" in fault else 60))

    with dspy.settings.context(lm=lm), pytest.raises(kind_of(ours, litellms, dspys)):
        dspy.Predict("question -> answer")(question="Where?")

    assert len(server.calls) == (3 if is_retried else 1)


@pytest.mark.parametrize(("fault", "ours", "litellms", "dspys", "is_retried"), CASES[:2])
def test_the_same_holds_for_async_programs(
    modern: Any,
    server: MockServer,
    aim: Callable[..., EngineConfig],
    kind_of: Callable[[str, str, str], Any],
    fault: dict[str, Any],
    ours: str,
    litellms: str,
    dspys: str,
    is_retried: bool,
) -> None:
    """An adapter's second attempt does not repeat the retries in async programs either."""
    _failing(server, fault)
    lm = to_lm(aim(server, max_retries=2))

    async def ask() -> None:
        with modern.context(lm=lm):
            await modern.Predict("question -> answer").acall(question="Where?")

    with pytest.raises(kind_of(ours, litellms, dspys)):
        asyncio.run(ask())

    assert is_retried
    assert len(server.calls) == 3


def test_a_prompt_that_is_too_long_is_named_so(
    dspy: Any, aim: Callable[..., EngineConfig], kind_of: Callable[[str, str, str], Any]
) -> None:
    """DSPy's programs handle this error themselves."""
    window = "ContextWindowExceededError"
    with MockServer(context_length=64) as server:
        lm = to_lm(aim(server), max_tokens=10)
        kind = kind_of("ContextLengthError", window, window)

        with dspy.settings.context(lm=lm), pytest.raises(kind):
            dspy.Predict("question -> answer")(question="Where? " * 99)

        assert len(server.calls) == 1


def test_what_passes_is_not_seen(
    dspy: Any, server: MockServer, config: EngineConfig, says: Callable[..., str]
) -> None:
    """A server that fails twice and then answers is a success."""
    faults = [Fault(status=429), Fault(status=503)]
    server.play(Script(faults=faults, replies=[says(answer="Paris")]))

    with dspy.settings.context(lm=to_lm(config)):
        assert dspy.Predict("question -> answer")(question="Where?").answer == "Paris"

    assert len(server.calls) == 3


@pytest.mark.parametrize("num_retries", [0, 1])
def test_num_retries_of_dspy_sets_the_engines_retries(
    dspy: Any, server: MockServer, config: EngineConfig, num_retries: int
) -> None:
    """``num_retries`` counts, and nothing adds retries to it."""
    _failing(server, {"status": 500})

    with dspy.settings.context(lm=to_lm(config, num_retries=num_retries)), pytest.raises(Exception):  # noqa: B017, PT011 - its kind is tested above
        dspy.Predict("question -> answer")(question="Where?")

    assert len(server.calls) == num_retries + 1


def test_a_retry_of_the_users_own_asks_again(
    dspy: Any, server: MockServer, config: EngineConfig, says: Callable[..., str]
) -> None:
    """Only an adapter's second attempt is stopped, not a program that runs again on failure."""
    server.play(Script(faults=[Fault(status=500)], replies=[says(answer="Paris")]))
    predict = dspy.Predict("question -> answer")

    with dspy.settings.context(lm=to_lm(config, num_retries=0)):
        try:
            answer = predict(question="Where?").answer
        except Exception:  # noqa: BLE001 - what a careless caller writes
            answer = predict(question="Where?").answer

    assert answer == "Paris"
    assert len(server.calls) == 2


def test_a_program_may_retry_inside_a_module(
    modern: Any, server: MockServer, config: EngineConfig, says: Callable[..., str]
) -> None:
    """A module may also retry while it is running."""

    class Stubborn(modern.Module):  # type: ignore[misc,name-defined]  # dspy has no types
        """Asks again on failure."""

        def __init__(self) -> None:
            super().__init__()
            self.predict = modern.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            """The answer, of the second attempt if the first one fails."""
            try:
                return self.predict(question=question)
            except Exception:  # noqa: BLE001 - what a careless caller writes
                return self.predict(question=question)

    server.play(Script(faults=[Fault(status=500)], replies=[says(answer="Paris")]))

    with modern.context(lm=to_lm(config, num_retries=0)):
        assert Stubborn()(question="Where?").answer == "Paris"

    assert len(server.calls) == 2


def test_our_error_is_behind_dspys(modern: Any, server: MockServer, config: EngineConfig) -> None:
    """The cause has the number of attempts and the server's message."""
    _failing(server, {"status": 500})

    with (
        modern.context(lm=to_lm(config, num_retries=1)),
        pytest.raises(Exception) as caught,  # noqa: PT011 - its kind is tested above
    ):
        modern.Predict("question -> answer")(question="Where?")

    chain = [caught.value]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    ours = chain[-1]
    assert isinstance(ours, llmengine.InternalServerError)
    assert (ours.status, ours.attempts) == (500, 2)


def test_an_answer_that_was_cut_is_logged(
    dspy: Any, server: MockServer, config: EngineConfig, caplog: Any, monkeypatch: Any
) -> None:
    """DSPy's warning of the token limit, or ours on 2.4, which has none."""
    import logging  # noqa: PLC0415 - for one handler

    monkeypatch.setattr(logging.getLogger("dspy"), "propagate", True)
    server.play(Script(replies=["one two three four five six"]))

    to_lm(config, max_tokens=2)("Count.")

    assert dspy
    assert "cut at 2 tokens" in caplog.text or "was truncated" in caplog.text


def test_a_typed_answer_that_was_cut_is_dspys_parse_error(
    modern: Any, server: MockServer, config: EngineConfig
) -> None:
    """The engine does not retry it, because DSPy's adapters have their own second attempt."""
    server.play(Script(replies=["one two three four five six"] * 9))

    with (
        modern.context(lm=to_lm(config, max_tokens=2), adapter=modern.JSONAdapter()),
        pytest.raises(modern.utils.exceptions.AdapterParseError),
    ):
        modern.Predict("question -> answer: int")(question="How many?")


def test_an_answer_that_fits_no_schema_is_dspys_parse_error(
    modern: Any, server: MockServer, config: EngineConfig
) -> None:
    """After the engine's last step DSPy's parser raises its own error."""
    server.play(Script(replies=["no"] * 9))

    with (
        modern.context(lm=to_lm(config), adapter=modern.JSONAdapter()),
        pytest.raises(modern.utils.exceptions.AdapterParseError),
    ):
        modern.Predict("question -> answer: int")(question="How many?")


def test_invalid_source_is_refused(dspy: Any) -> None:
    """The error names what a language model can be made of."""
    assert dspy
    with pytest.raises(llmengine.ConfigError, match="give an engine, an EngineConfig, or a worker"):
        to_lm("gpt-4")  # type: ignore[arg-type]  # on purpose
