"""DSPy's streams over an engine: token by token, in sync and async programs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import to_lm
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig
    from llmengine.mock import MockServer

_LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


async def _read(dspy: Any, lm: Any, *, is_async: bool = False, **settings: Any) -> list[Any]:
    """Everything that a streamed program yields."""
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
    program = dspy.streamify(
        dspy.Predict("question -> answer"), stream_listeners=listeners, is_async_program=is_async
    )
    with dspy.context(lm=lm, **settings):
        return [item async for item in program(question="Count.")]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_field_comes_token_by_token(
    modern: Any, config: EngineConfig, answering: Callable[..., None], is_async: bool
) -> None:
    """The listener gets the field in many pieces, which join to the field of the prediction."""
    answering({"answer": _LONG})

    *pieces, prediction = asyncio.run(_read(modern, to_lm(config), is_async=is_async))

    heard = [piece.chunk for piece in pieces]
    assert len(heard) > 3
    assert "".join(heard).strip() == _LONG
    assert prediction.answer == _LONG


def test_the_server_is_asked_for_a_stream_once(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """One request, with the usage at its end for DSPy's tracker."""
    answering({"answer": _LONG})
    lm = to_lm(config)

    asyncio.run(_read(modern, lm))

    (call,) = server.calls
    assert call.json["stream"] is True
    assert lm.history[-1]["usage"]["total_tokens"] > 100


def test_a_schema_is_enforced_in_a_stream(
    modern: Any, config: EngineConfig, server: MockServer
) -> None:
    """JSONAdapter's answers are streamed too."""
    server.play(Script(replies=[f'{{"answer": "{_LONG}"}}']))

    *pieces, prediction = asyncio.run(_read(modern, to_lm(config), adapter=modern.JSONAdapter()))

    assert server.calls[0].json["response_format"]["type"] == "json_schema"
    assert "".join(piece.chunk for piece in pieces).strip(' "') == _LONG
    assert prediction.answer == _LONG


def test_a_stream_that_breaks_off_is_an_error(
    modern: Any, config: EngineConfig, server: MockServer, says: Callable[..., str]
) -> None:
    """After a part was delivered, nothing sends the request again."""
    server.play(Script(replies=[says(answer=_LONG)] * 5, faults=[Fault(cut_after=12)] * 5))

    with pytest.raises(Exception) as caught:  # noqa: PT011 - its text is tested below
        asyncio.run(_read(modern, to_lm(config)))

    (failure,) = _leaves(caught.value)
    assert "the connection to" in str(failure)
    assert len(server.calls) == 1


def _leaves(error: BaseException) -> list[Any]:
    """The errors in nested groups; before 3.4 a task group wraps them."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def test_a_stream_that_never_begins_is_retried(
    modern: Any, config: EngineConfig, server: MockServer, says: Callable[..., str]
) -> None:
    """A request is retried if no part of its answer was delivered."""
    server.play(Script(replies=[says(answer=_LONG)], faults=[Fault(status=503)]))

    *_, prediction = asyncio.run(_read(modern, to_lm(config)))

    assert prediction.answer == _LONG
    assert len(server.calls) == 2


def test_reasoning_and_tool_calls_are_streamed(newest: Any, config: EngineConfig) -> None:
    """DSPy's events have all parts of an answer, in their order."""
    from llmengine import Delta  # noqa: PLC0415 - as above
    from llmengine.integrations.dspy.dspy3_4 import StreamEvents  # noqa: PLC0415 - needs DSPy 3.4
    from llmengine.types.outputs import ToolCallDelta  # noqa: PLC0415 - as above

    assert newest
    assert config
    lm15 = newest.lm15
    events = StreamEvents("m")
    deltas = [
        Delta(reasoning="Hm."),
        Delta(text="I look."),
        Delta(tool_calls=(ToolCallDelta(0, "c1", "look", '{"at"'),)),
        Delta(tool_calls=(ToolCallDelta(0, None, None, ': "sky"}'),)),
        Delta(tool_calls=(ToolCallDelta(1, "c2", "stop", "{}"),), finish_reason="tool_calls"),
    ]
    listed = [events.start(), *(e for d in deltas for e in events.of(d)), events.end()]

    request = lm15.Request(model="m", messages=(lm15.Message.user("Look."),))
    response = lm15.ResponseStream(iter(listed), request).response

    kinds = [part.type for part in response.message.parts]
    assert kinds == ["thinking", "text", "tool_call", "tool_call"]
    assert [call.input for call in response.tool_calls] == [{"at": "sky"}, {}]
    assert response.finish_reason == "tool_call"
