"""For any bytes that a server sends, one prompt fails alone and a stream ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from fuzz.promises import JUNK, junk_text, places, replaced
from fuzz.seeds import Answer, real_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from llmengine import EngineConfig, LLMEngineError, run_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# All examples of a test share one server and one engine, which keep no state of an example.
over_the_wire = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATIENCE = 60  # seconds; only a stream that hangs takes them
BACKENDS = ("openai_compatible", "ollama_api", "openai")

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "choices": [{"index": 0, "message": {"content": "good"}, "finish_reason": "stop"}]
    },
    "/api/chat": {"message": {"content": "good"}, "done": True, "done_reason": "stop"},
    "/v1/responses": {
        "id": "r",
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "good"}]}],
    },
}


class Wire:
    """What the server answers to the prompt "odd"; every other prompt gets a good answer."""

    body: bytes = b""
    status: int = 200
    type: str = "application/json"

    def __call__(self, request: Any, connection: Any) -> None:
        """Answer one request."""
        if b'"odd"' in request.body:
            headers = {"Content-Type": self.type, "Connection": "close"}
            connection.reply(self.body, status=self.status, headers=headers)
        else:
            connection.reply(GOOD[request.path])


@pytest.fixture
def wire() -> Wire:
    """What the server answers."""
    return Wire()


@pytest.fixture(params=BACKENDS)
def engine(request: Any, wire: Wire, raw_server: Callable[[Any], Any]) -> Any:
    """An engine for each wire format."""
    if request.param == "openai":
        pytest.importorskip("openai")
    fields: dict[str, Any] = {"backend": request.param, "model": "m", "max_retries": 0}
    address = raw_server(wire).url
    return EngineConfig(endpoint=address, api_key="sk-test-key", timeout=30, **fields).engine


def _check_calls(engine: Any, wire: Wire, body: bytes, status: int = 200) -> None:
    """Check the promise of each style of call if the server sends that body."""
    wire.body, wire.status, wire.type = body, status, "application/json"
    for results in (
        engine.results(["a", "odd", "b"]),
        list(engine.iter_results(["a", "odd", "b"])),
    ):
        assert [r.ok for r in results[::2]] == [True, True]
        assert results[1].ok or isinstance(results[1].error, LLMEngineError)
    wire.type = engine.backend.dialect.stream_type

    async def read() -> list[Any]:
        return [delta async for delta in engine.astream("odd")]

    with suppress(LLMEngineError):  # any other exception fails the test, a TimeoutError too
        asyncio.run(asyncio.wait_for(read(), PATIENCE))


any_body = st.binary(max_size=120) | st.sampled_from(
    [junk_text(value).encode() for value in JUNK]
    + [b'{"choices":[null]}', b'{"choices":[{"message":{"content":"a"}}]}', b"data: {}\n\n"]
    + [b'{"choices":[{"message":[]}],"usage":{"prompt_tokens":"5"}}', b"[" * 5000]
)


@over_the_wire
@given(body=any_body, status=st.sampled_from([200, 200, 200, 204, 302, 404, 422, 500]))
def test_any_body(engine: Any, wire: Wire, body: bytes, status: int) -> None:
    """Any bytes with any status."""
    _check_calls(engine, wire, body, status)


@over_the_wire
@given(st.sampled_from(real_answers()), st.data())
def test_a_real_answer_with_junk_in_it(
    engine: Any, wire: Wire, answer: Answer, data: st.DataObject
) -> None:
    """A recorded answer in which one value has another type."""
    head, brace, rest = answer.body.partition(b"{")
    line, end, others = rest.partition(b"\n")
    value = from_json(brace + line)
    junk = replaced(
        value, data.draw(st.sampled_from(places(value))), data.draw(st.sampled_from(JUNK))
    )
    _check_calls(engine, wire, head + junk_text(junk).encode() + end + others)


def test_any_body_in_a_batch_file(
    wire: Wire, raw_server: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Every line of the input has its line in the output, for any answer."""
    config: dict[str, Any] = {"backend": "openai_compatible", "model": "m", "max_retries": 0}
    engine = EngineConfig(endpoint=raw_server(wire).url, **config).engine
    output = tmp_path / "out.jsonl"
    numbers = iter(range(10_000))

    @over_the_wire
    @given(body=any_body)
    def hold(body: bytes) -> None:
        wire.body = body
        number = next(numbers)
        lines = [
            {
                "custom_id": f"{number}-{text}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"messages": [{"role": "user", "content": text}]},
            }
            for text in ("a", "odd", "b")
        ]
        output.unlink(missing_ok=True)
        report = run_batch(lines, output, engine)
        written = [json.loads(line) for line in output.read_bytes().splitlines()]
        assert {w["custom_id"] for w in written} == {li["custom_id"] for li in lines}
        assert report.progress.answered >= 2

    hold()
