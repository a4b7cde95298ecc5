"""Recorded answers of Ollama 0.32.15, and what the engine makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    BadRequestError,
    BatchError,
    ContextLengthError,
    EngineConfig,
    InvalidRequestError,
    NotFoundError,
    SamplingParams,
)
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine

SAMPLES = Path(__file__).parents[1] / "samples" / "ollama"
# 12,010 tokens were read as 2,050 by a model with a context of 4,096, as /api/ps says.
READ = 2050
LONG = "好" * 12_000
ROUTES = pytest.mark.parametrize("path", ["", "/v1"], ids=["native", "v1"])


def recorded(name: str) -> tuple[int, Any]:
    """The status and the body of a recorded answer."""
    response = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))["response"]
    return response["status"], json.loads(response["body_raw"])


@pytest.fixture
def ollama(raw_server: Callable[[Any], Any]) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and a server that answers a path by a name or a (status, body)."""

    def make(path: str = "", model: str = "smollm2:135m", **answers: Any) -> tuple[Engine, Any]:
        def handler(request: Any, connection: Any) -> None:
            answer = answers.get(request.path.replace("/", "_").removeprefix("_"), (404, {}))
            status, body = recorded(answer) if isinstance(answer, str) else answer
            connection.reply(body, status=status)

        server = raw_server(handler)
        config = EngineConfig(backend="ollama_api", model=model, endpoint=server.url + path)
        return config.engine, server

    return make


def _read(tokens: int) -> tuple[int, Any]:
    """An answer of /v1 for which that many tokens were read."""
    status, body = recorded("oai_chat")
    return status, body | {"usage": {"prompt_tokens": tokens, "completion_tokens": 4}}


def test_a_prompt_without_blanks_that_v1_cuts_is_an_error(ollama: Any) -> None:
    """The token count is that of a prompt longer than the context of Ollama."""
    engine, _ = ollama("/v1", v1_chat_completions=_read(READ), api_ps="native_ps_after")

    (result,) = engine.results(LONG)

    assert isinstance(result.error, ContextLengthError)
    assert "2050 tokens were read" in str(result.error)
    assert "context of 4096" in str(result.error)
    assert result.error.partial.outputs[0].text


def test_a_stream_of_v1_that_was_cut_ends_in_an_error(raw_server: Any, chunk: Any) -> None:
    """The count comes at the end of the stream, and so does the error."""

    def handler(request: Any, connection: Any) -> None:
        if request.path == "/api/ps":
            connection.reply(recorded("native_ps_after")[1])
            return
        usage = {"prompt_tokens": READ, "completion_tokens": 1, "total_tokens": READ + 1}
        connection.start_sse()
        connection.sse(chunk("Hi"), chunk(finish="stop"), {"choices": [], "usage": usage}, ...)
        connection.chunk(b"")

    endpoint = raw_server(handler).url + "/v1"
    engine = EngineConfig(backend="ollama_api", model="smollm2:135m", endpoint=endpoint).engine

    with pytest.raises(ContextLengthError, match="context of 4096"):
        list(engine.stream(LONG))


@pytest.mark.parametrize(
    ("tokens", "ps", "prompt"),
    [
        (READ - 1, "native_ps_after", LONG),
        (READ, (200, {"models": []}), LONG),
        (READ, (500, {"error": "no"}), LONG),
        (READ, "native_ps_after", "short"),
    ],
    ids=["another count", "not loaded", "not told", "a prompt that fits"],
)
def test_what_is_not_known_to_be_cut_is_an_answer(
    ollama: Any, tokens: int, ps: Any, prompt: str
) -> None:
    """Only the exact count of a cut, of a prompt that is long enough for it, is an error."""
    engine, _ = ollama("/v1", v1_chat_completions=_read(tokens), api_ps=ps)

    assert engine.generate(prompt)[0].outputs[0].text


def test_cut_is_an_answer_of_v1_with_truncate(ollama: Any) -> None:
    """With ``truncate: true`` the context is not asked for."""
    engine, server = ollama("/v1", v1_chat_completions=_read(READ), api_ps="native_ps_after")

    assert engine.generate(LONG, extra_body={"truncate": True})[0].outputs[0].text
    assert [r.path for r in server.requests] == ["/v1/chat/completions"]


@ROUTES
def test_a_model_that_is_not_there_is_named_with_those_that_are(ollama: Any, path: str) -> None:
    """The error lists the models of the server, and the command that gets the model."""
    answers = {"api_chat": "native_chat_missing_model", "v1_chat_completions": "oai_chat_bad_model"}
    engine, _ = ollama(path, "nope", **answers, api_tags="native_tags")

    (result,) = engine.results("Hi")

    assert isinstance(result.error, NotFoundError)
    assert "smollm2:135m" in str(result.error)
    assert "`ollama pull nope`" in str(result.error)
    with pytest.raises(NotFoundError, match="`ollama pull nope`"):
        list(engine.stream("Hi"))


def test_wrong_path_is_not_a_missing_model(ollama: Any) -> None:
    """A server without such a route is not asked for its models."""
    engine, server = ollama("")

    with pytest.raises(BatchError, match="no such route"):
        engine.generate("Hi")
    assert [r.path for r in server.requests] == ["/api/chat"]


@pytest.mark.parametrize("name", ["native_generate_bad_option_type", "native_generate_bad_format"])
def test_a_wrong_option_is_asked_once(ollama: Any, name: str) -> None:
    """Ollama answers 500 to a wrong request, which a retry does not mend."""
    engine, server = ollama("", api_chat=name)

    (result,) = engine.results("Hi", extra_body={"options": {"temperature": "hot"}})

    assert isinstance(result.error, BadRequestError)
    assert (result.error.status, result.attempts, len(server.requests)) == (500, 1, 1)


@pytest.mark.parametrize(
    ("parameters", "length"),
    [("", 8192), ('stop "<|im_end|>"\nnum_ctx                        2048', 2048)],
)
def test_fingerprint_has_the_context(ollama: Any, parameters: str, length: int) -> None:
    """The longest context is that of /api/show, or what the model's file sets."""
    info = {"general.architecture": "llama", "llama.context_length": 8192}
    shown = {"parameters": parameters, "model_info": info}
    models = {"data": [{"id": "smollm2:135m", "owned_by": "library"}]}
    engine, server = ollama(
        api_version="native_version",
        api_tags="native_tags",
        api_show=(200, shown),
        v1_models=(200, models),
    )

    found = engine.fingerprint()

    assert (found.version, found.max_model_len) == ("0.32.15", length)
    assert found.model_digest.startswith("fd5f44c0")
    assert server.requests[-1].json == {"model": "smollm2:135m"}


@ROUTES
def test_fields_that_ollama_ignores_are_refused_before_anything_is_sent(path: str) -> None:
    """Neither a sampling parameter nor a field of the body is dropped silently."""
    with MockServer() as server:
        config = EngineConfig(backend="ollama_api", model="mock", endpoint=server.root_url + path)
        several = config.engine.results("Hi", SamplingParams(n=2))[0]
        biased = config.engine.results("Hi", extra_body={"logit_bias": {"1": 5}})[0]

        assert isinstance(several.error, InvalidRequestError)
        assert isinstance(biased.error, InvalidRequestError)
        assert server.calls == []


def test_odd_parts_of_a_message_do_not_hide_the_answer(ollama: Any) -> None:
    """A part without text counts as empty when the prompt is compared with the count."""
    engine, _ = ollama("/v1", v1_chat_completions="oai_chat")
    content = [{"type": "text"}, "x", {"type": "text", "text": 5}, {"type": "text", "text": "Hi"}]

    (result,) = engine.results([{"role": "user", "content": content}])

    assert result.ok, result.error
