"""Recorded streams of real servers: what their deltas join to, and what a cut leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine import StreamIncompleteError
from llmengine.dialects.anthropic_messages import AnthropicMessages
from llmengine.dialects.ollama import OllamaChat
from llmengine.dialects.openai_chat import OpenAIChat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from llmengine import Delta, LLMOutput
    from llmengine.dialects.base import Dialect
    from llmengine.types.request import ChatRequest

# stream: (its dialect, answers asked for, first bytes of what ends its last event with an end).
STREAMS: dict[str, tuple[Dialect, int, bytes]] = {
    "ollama/oai_chat_stop_stream.sse": (OpenAIChat(), 1, b'"finish_reason":"stop"}]}'),
    "ollama/oai_chat_stream_usage.sse": (OpenAIChat(), 1, b'"finish_reason":"stop"}]}'),
    "ollama/oai_chat_tools_stream.sse": (OpenAIChat(), 1, b'"finish_reason":"tool_calls"}]}'),
    "ollama/oai_chat_top_logprobs_stream.sse": (OpenAIChat(), 1, b'"finish_reason":"length"}]}'),
    "ollama/native_chat_stream.ndjson": (OllamaChat(), 1, b'"eval_duration":159130000}'),
    "ollama/native_chat_tools_stream.ndjson": (OllamaChat(), 1, b'"eval_duration":686325000}'),
    "ollama/native_chat_schema_stream.ndjson": (OllamaChat(), 1, b'"eval_duration":'),
    "ollama/anthropic_messages_stream.json": (AnthropicMessages(), 1, b'"type":"message_stop"}'),
    "llamacpp/messages_stream.json": (AnthropicMessages(), 1, b'"type":"message_stop"}'),
    "vllm/chat_stream_usage.json": (OpenAIChat(), 1, b'"stop_reason":null,"token_ids":null}]'),
    "vllm/chat_stream_n2.json": (OpenAIChat(), 2, b'"stop_reason":null,"token_ids":null}]'),
    "vllm/chat_stream_logprobs.json": (OpenAIChat(), 1, b'"stop_reason":null,"token_ids":null}]'),
    "vllm/chat_tools_required_stream.json": (
        OpenAIChat(),
        1,
        b'"stop_reason":null,"token_ids":null}]',
    ),
}


def _read(
    dialect: Dialect, request: ChatRequest, pieces: Iterable[bytes]
) -> tuple[list[Delta], LLMOutput]:
    decoder = dialect.decoder(request)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_deltas_join_to_the_answer(
    name: str, sample: Callable[[str], Any], chat: Callable[..., ChatRequest]
) -> None:
    """The deltas have all of the answer and nothing else."""
    dialect, n, _ = STREAMS[name]
    deltas, answer = _read(dialect, chat(n=n), [sample(name).body])
    assert len(answer.outputs) == n
    for output in answer.outputs:
        own = [d for d in deltas if d.index == output.index]
        assert "".join(d.text for d in own) == output.text
        assert [lp for d in own for lp in d.logprobs] == list(output.logprobs or ())
        assert [d.finish_reason for d in own if d.finish_reason] == [output.finish_reason]
        fragments = [f.arguments for d in own for f in d.tool_calls]
        assert "".join(fragments) == "".join(c.arguments for c in output.tool_calls)
    assert [d.usage for d in deltas if d.usage] == ([answer.usage] if answer.usage else [])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_never_looks_whole(
    name: str, sample: Callable[[str], Any], chat: Callable[..., ChatRequest]
) -> None:
    """A cut before the terminal event is an error with the text so far; after it, none is."""
    dialect, n, mark = STREAMS[name]
    request, body = chat(n=n), sample(name).body
    _, whole = _read(dialect, request, [body])
    ended = body.index(b"}\n", body.rindex(mark) + len(mark) - 1) + 1
    for cut in range(len(body)):
        decoder = dialect.decoder(request)
        decoder.feed(body[:cut])
        if cut >= ended:
            assert decoder.finish().outputs == whole.outputs, cut
            continue
        with pytest.raises(StreamIncompleteError) as failed:
            decoder.finish()
        partial = failed.value.partial
        assert partial is not None
        assert not partial.finished
        for output in partial.outputs:
            assert whole.outputs[output.index].text.startswith(output.text), cut
