"""Lines of a batch that demand a tool call, at servers that ignore ``tool_choice``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import run_batch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batch.conftest import Kit

FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "weather"}}


def _chat(*calls: str, text: str = "It rains.", finish: str = "stop") -> dict[str, Any]:
    called = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in calls
    ]
    message = {"role": "assistant", "content": text, "tool_calls": called}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _response(*calls: str) -> dict[str, Any]:
    said = {"type": "message", "content": [{"type": "output_text", "text": "It rains."}]}
    called = [
        {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}
        for name in calls
    ]
    return {"status": "completed", "output": [said, *called]}


@pytest.fixture
def run(raw_server: Any, engine_at: Any, kit: Kit, output: Path) -> Any:
    """Runs one line, whose request has these fields, at a server that gives that answer."""

    def ask(answer: dict[str, Any], url: str = "/v1/chat/completions", **fields: Any) -> Any:
        server = raw_server(lambda _, connection: connection.reply(answer))
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
        line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
        run_batch([line], output, engine_at(server.url, max_retries=2))
        (written,) = kit.read(output)
        return written, server

    return ask


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_answer_without_the_call_is_an_error_line(run: Any, choice: Any) -> None:
    """The line keeps the answer, and the request is not sent again."""
    answer = _chat()

    line, server = run(answer, tools=[TOOL], tool_choice=choice)

    assert line["error"]["code"] == "structured_output_error"
    assert "the answer calls no tool" in line["error"]["message"]
    assert line["response"]["body"] == answer
    assert len(server.requests) == 1


def test_other_tool_than_the_named_one_is_an_error_line(run: Any) -> None:
    """The call of another tool is not the one that was demanded."""
    line, _ = run(_chat("clock"), tools=[TOOL], tool_choice=NAMED)

    assert "the answer calls 'clock'" in line["error"]["message"]


def test_cut_answer_without_the_call_says_so(run: Any) -> None:
    """The token limit is named as the cause."""
    line, _ = run(_chat(finish="length"), tools=[TOOL], tool_choice="required")

    assert line["error"]["code"] == "truncated_error"


def test_response_without_the_call_is_an_error_line(run: Any) -> None:
    """The same holds for the responses API, whose tools are flat."""
    tools = [{"type": "function", **FUNCTION}]

    line, _ = run(_response(), "/v1/responses", tools=tools, tool_choice="required")

    assert line["error"]["code"] == "structured_output_error"


@pytest.mark.parametrize(
    ("answer", "url", "choice"),
    [
        (_chat("weather"), "/v1/chat/completions", "required"),
        (_chat("weather"), "/v1/chat/completions", NAMED),
        (_chat(), "/v1/chat/completions", "auto"),
        (_chat(), "/v1/chat/completions", None),
        (_chat(), "/v1/chat/completions", 7),
        (_response("weather"), "/v1/responses", "required"),
    ],
)
def test_answer_that_does_as_demanded_is_answered(
    run: Any, answer: Any, url: str, choice: Any
) -> None:
    """A request that demands no call is answered too; odd values are left to the server."""
    line, _ = run(answer, url, tools=[TOOL, 7], tool_choice=choice)

    assert line["error"] is None
    assert line["response"]["body"] == answer
