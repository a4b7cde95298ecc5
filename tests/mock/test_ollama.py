"""Ollama's own API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from conftest import Api

USER = [{"role": "user", "content": "Tell me."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
MEASURES = {
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration",
}  # fmt: skip


def _lines(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def _whole(api: Api, path: str = "/api/chat", **body: Any) -> Any:
    given = {"messages": USER} if path == "/api/chat" else {"prompt": "Tell me."}
    response = api.post(path, **(given | body), stream=False)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("model", ["mock", "mock:latest"])
def test_chat_streams_by_default(reference: Api, model: str) -> None:
    """The default is NDJSON, whose lines join to the whole answer, with or without a tag."""
    *parts, last = _lines(reference.post("/api/chat", model=model, messages=USER))
    whole = _whole(reference, model=model)

    assert "".join(p["message"]["content"] for p in parts) == whole["message"]["content"]
    assert not any(p["done"] for p in parts)
    assert last["done"]
    assert whole["model"] == model
    assert {k: last[k] for k in MEASURES} == {k: whole[k] for k in MEASURES}


def test_generate_streams_by_default(reference: Api) -> None:
    """Lines of generate join to the whole answer too, and the last one has the context."""
    *parts, last = _lines(reference.post("/api/generate", prompt="Tell me."))
    whole = _whole(reference, "/api/generate")

    assert "".join(p["response"] for p in parts) == whole["response"]
    assert last["context"] == whole["context"]
    assert all(isinstance(t, int) for t in last["context"])


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_options_are_kept(reference: Api, path: str) -> None:
    """num_predict, stop and seed have the same effect as their names in OpenAI's API."""
    text = "response" if path == "/api/generate" else "message"
    cut = _whole(reference, path, options={"num_predict": 3})
    unlimited = _whole(reference, path, options={"num_predict": -1})
    one, two = (_whole(reference, path, options={"seed": s})[text] for s in (1, 2))

    assert (cut["done_reason"], cut["eval_count"]) == ("length", 3)
    assert (unlimited["done_reason"], unlimited["eval_count"] > 20) == ("stop", True)
    assert one != two


def test_stop_option_ends_the_answer(reference: Api) -> None:
    """A stop sequence is left out of the text."""
    whole = _whole(reference)["message"]["content"]
    word = whole.split()[4]
    cut = _whole(reference, options={"stop": [word]})

    assert cut["message"]["content"] == whole[: whole.index(word)]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(
    "given", ["json", {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}]
)
def test_format_is_kept(reference: Api, path: str, given: Any) -> None:
    """Both forms of format give JSON, and a schema gives JSON that fits it."""
    body = _whole(reference, path, format=given)
    value = json.loads(body["response"] if "response" in body else body["message"]["content"])

    assert isinstance(value, dict)
    assert value == {"n": 7} or given == "json"


def test_thinking_has_a_field_of_its_own(reference: Api) -> None:
    """Thinking comes if it is wanted, before the answer and not in its text."""
    whole = _whole(reference, think=True)["message"]
    lines = _lines(reference.post("/api/chat", messages=USER, think="medium"))
    generated = _whole(reference, "/api/generate", think=True)

    assert whole["thinking"]
    assert "".join(x["message"].get("thinking", "") for x in lines) == whole["thinking"]
    assert generated["thinking"]
    assert "thinking" not in _whole(reference, think=False)["message"]


def test_call_has_arguments_as_an_object(reference: Api) -> None:
    """A call is complete in one line of a stream, and its arguments are an object."""
    prompt = [{"role": "user", "content": "What is the weather in Paris?"}]
    (call,) = _whole(reference, messages=prompt, tools=[TOOL])["message"]["tool_calls"]
    first, last = _lines(reference.post("/api/chat", messages=prompt, tools=[TOOL]))

    assert call["function"] == {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}
    assert first["message"]["tool_calls"][0]["function"] == call["function"]
    assert last["done_reason"] == "stop"


def test_tool_result_is_used(reference: Api) -> None:
    """The answer to a message with the role tool is text."""
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    turns = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
    ]

    assert "sunny" in _whole(reference, messages=turns, tools=[TOOL])["message"]["content"]


def test_system_text_is_obeyed(reference: Api) -> None:
    """Generate accepts a system text besides the prompt."""
    body = _whole(reference, "/api/generate", system="Answer only with the word MANGO.")

    assert body["response"] == "MANGO"


@pytest.mark.parametrize(("keep_alive", "reason"), [({}, "load"), ({"keep_alive": 0}, "unload")])
def test_nothing_asked_loads_the_model(
    reference: Api, keep_alive: dict[str, int], reason: str
) -> None:
    """Without a prompt the model is loaded, or unloaded."""
    body = reference.post("/api/generate", stream=False, **keep_alive).json()

    assert (body["response"], body["done"], body["done_reason"]) == ("", True, reason)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": ""}, 400, "model is required"),
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({"messages": "x"}, 400, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "invalid role"),
        ({"format": "xml"}, 500, "invalid format"),
        ({"format": {"type": "strin"}}, 400, "invalid JSON schema"),
        ({"options": {"temperature": "hot"}}, 500, 'option "temperature"'),
        ({"options": {"num_predict": 1.5}}, 500, 'option "num_predict"'),
        ({"think": "bogus"}, 400, "invalid think value"),
        ({"keep_alive": "banana"}, 400, "invalid duration"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "context length"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_errors_are_one_string(
    reference: Api, body: dict[str, Any], status: int, words: str, stream: bool
) -> None:
    """Every refusal is an object with one string, streamed or not."""
    response = reference.post("/api/chat", **({"messages": USER, "stream": stream} | body))

    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]


def test_model_routes_describe_the_model(reference: Api) -> None:
    """tags, ps and show describe the same model by its tag."""
    (stored,) = reference.http.get("/api/tags").json()["models"]
    (loaded,) = reference.http.get("/api/ps").json()["models"]
    shown = reference.post("/api/show").json()

    assert stored["name"] == loaded["name"] == "mock:latest"
    assert stored["digest"] == loaded["digest"]
    assert shown["capabilities"] == stored["capabilities"]
    assert "mock.context_length" in shown["model_info"]
    assert reference.post("/api/show", model="nope").status_code == 404


def test_root_and_version_answer(reference: Api) -> None:
    """The paths that clients probe exist."""
    assert reference.http.get("/").text == "Ollama is running"
    assert reference.http.get("/api/version").json().keys() == {"version"}


def test_pulled_model_answers(start: Any) -> None:
    """A pull reports its bytes and its end, and after it the server has the model."""
    api = start()
    lines = _lines(api.post("/api/pull", model="tiny"))
    sizes = [(x["completed"], x["total"]) for x in lines if "completed" in x]
    names = [m["name"] for m in api.http.get("/api/tags").json()["models"]]

    assert lines[-1] == {"status": "success"}
    assert sizes[-1][0] == sizes[-1][1] > 0
    assert names == ["mock:latest", "tiny:latest"]
    assert api.said(model="tiny")["message"]["content"]
    assert api.post("/api/pull", model="small:1b", stream=False).json() == {"status": "success"}


def test_failed_pull_says_so_inside_its_stream(reference: Api) -> None:
    """For an unknown model a streamed pull has an error line after status 200, else it is a 500."""
    *_, last = _lines(reference.post("/api/pull", model="no-such-model"))
    whole = reference.post("/api/pull", model="no-such-model", stream=False)

    assert "does not exist" in last["error"]
    assert (whole.status_code, whole.json()) == (500, last)
    assert reference.post("/api/show", model="no-such-model").status_code == 404
    assert reference.post("/api/pull", model="").status_code == 400
