"""The real llama.cpp server with the real model."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError
from llmengine.embedded import models, server
from llmengine.embedded.child import trim
from llmengine.embedded.server import ServerOptions, default_threads, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.embedded.server import EmbeddedServer

CHAT = "/v1/chat/completions"


def _ask(text: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"messages": [message], "max_tokens": 8, "temperature": 0, **fields}


def test_the_model_answers_under_its_name(
    running: EmbeddedServer, post: Callable[..., Any]
) -> None:
    """A chat over HTTP uses the given alias."""
    status, answer = post(running.root_url, CHAT, _ask("Say hello."))
    assert status == 200
    assert answer["model"] == running.model == "smollm2-135m"
    assert answer["choices"][0]["message"]["content"]


def test_the_same_question_gets_the_same_answer(
    running: EmbeddedServer, post: Callable[..., Any]
) -> None:
    """Greedy text and logprobs do not depend on earlier requests."""
    body = _ask("Name three colours.", logprobs=True)
    first = post(running.root_url, CHAT, body)[1]["choices"]
    post(running.root_url, CHAT, _ask("Name three colours and a fruit."))
    assert post(running.root_url, CHAT, body)[1]["choices"] == first


def test_a_json_schema_is_enforced(running: EmbeddedServer, post: Callable[..., Any]) -> None:
    """Even a small model has to answer in the schema."""
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = post(running.root_url, CHAT, _ask("Hello!", response_format=form, max_tokens=40))[1]
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"a": 7}


def test_it_listens_on_loopback_and_says_what_it_is(running: EmbeddedServer) -> None:
    """The version is that of the package with llama.cpp."""
    assert running.root_url.startswith("http://127.0.0.1:")
    assert running.base_url == running.root_url + "/v1"
    assert running.version == f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    assert running.alive


def test_starting_leaves_no_thread_behind(gguf: Path) -> None:
    """Threads in the parent would make a later fork unsafe."""
    before = set(threading.enumerate())
    with server.start(gguf):
        assert set(threading.enumerate()) == before


def test_embeddings_are_served_when_asked_for(gguf: Path, post: Callable[..., Any]) -> None:
    """The same server still answers chats."""
    with server.start(gguf, options=ServerOptions(embeddings=True)) as own:
        _, answer = post(own.root_url, "/v1/embeddings", {"input": "Hello"})
        assert len(answer["data"][0]["embedding"]) == 576
        assert post(own.root_url, CHAT, _ask("Hello"))[0] == 200


def test_the_context_is_divided_over_the_slots(gguf: Path, post: Callable[..., Any]) -> None:
    """Half of 512 tokens is too little for a prompt of 300."""
    with server.start(gguf, options=ServerOptions(n_ctx=512, n_parallel=2)) as own:
        status, answer = post(own.root_url, CHAT, _ask("word " * 300))
    assert status == 400
    assert answer["error"]["n_ctx"] == 256


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris"]}},
            "required": ["city"],
        },
    },
}


def test_tools_are_called_with_the_template_of_this_package(
    running: EmbeddedServer, gguf: Path, post: Callable[..., Any]
) -> None:
    """The model calls a tool, and a request without tools gets the prompt of its own template."""
    options = ServerOptions(chat_template=models.chat_template(running.model) or "")
    with server.start(gguf, options=options) as own:
        asked = _ask("What is the weather in Paris? Call the tool.", tools=[WEATHER], max_tokens=64)
        choice = post(own.root_url, CHAT, asked)[1]["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
        for turns in PLAIN:
            prompts = [
                post(s.root_url, "/apply-template", {"messages": turns}) for s in (own, running)
            ]
            assert prompts[0] == prompts[1]
            assert prompts[0][0] == 200


USER = {"role": "user", "content": "Say hello."}
PLAIN = [
    [USER],
    [{"role": "system", "content": "Be brief."}, USER],
    [{"role": "developer", "content": "Be brief."}, USER],
    [USER, {"role": "assistant", "content": "Hello."}, USER],
    [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "it"}],
        }
    ],
]


def test_a_chat_template_that_cannot_be_read_is_one_line(gguf: Path, tmp_path: Path) -> None:
    """The error names the file and the option."""
    options = ServerOptions(chat_template=tmp_path / "gone.jinja")
    with pytest.raises(ConfigError, match=r"gone\.jinja cannot be read .*`chat_template`"):
        server.start(gguf, options=options)


def test_a_port_of_ones_own_is_used_and_freed(gguf: Path, post: Callable[..., Any]) -> None:
    """The same port serves a second server directly after the first."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        options = ServerOptions(port=probe.getsockname()[1])
    for _ in range(2):
        with server.start(gguf, options=options) as own:
            assert own.root_url == f"http://127.0.0.1:{options.port}"
            assert post(own.root_url, CHAT, _ask("Hello", max_tokens=1))[0] == 200
        assert not own.alive


def test_a_port_in_use_is_one_line(gguf: Path) -> None:
    """The error has the address and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"in use.*{port}.*leave `port` at 0") as caught:
            server.start(gguf, options=ServerOptions(port=port))
    assert "\n" not in str(caught.value)


def test_a_model_file_that_is_gone_is_one_line(gguf: Path, tmp_path: Path) -> None:
    """No process is started for a missing file."""
    with pytest.raises(ConfigError, match=r"gone\.gguf does not exist; set `model`"):
        server.start(tmp_path / "gone.gguf")


def test_the_missing_extra_is_named(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the native package the error has the install command."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigError, match=r"pip install 'pytest-llmengine\[embedded\]'"):
        server.start(gguf)


def test_a_broken_model_file_brings_the_servers_own_words(gguf: Path, tmp_path: Path) -> None:
    """The error has the last log lines of llama.cpp."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf.read_bytes()[:100_000])
    with pytest.raises(
        ConfigError, match=r"did not start: (.|\n)*failed to load model.*broken\.gguf"
    ):
        server.start(broken)


def test_a_start_is_bounded(gguf: Path) -> None:
    """A server that does not answer in time is ended."""
    with pytest.raises(ConfigError, match=r"did not start: no token within 0\.01 s"):
        server.start(gguf, options=ServerOptions(startup_timeout=0.01))


class _SilentChild:
    """A process that reports that it is up, and answers nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))

    def report(self) -> dict[str, str]:
        return {"url": f"http://127.0.0.1:{self._socket.getsockname()[1]}"}

    def kill(self) -> None:
        self._socket.close()

    def log_tail(self) -> list[str]:
        return ["server is listening"]


def test_a_log_line_is_not_readiness() -> None:
    """A server that reports that it is up but answers no token has not started."""
    child: Any = _SilentChild()
    with pytest.raises(ConfigError, match=r"no token within 0\.1 s\n  server is listening"):
        wait_until_ready(child, "tiny", timeout=0.1)


def test_shared_gives_everyone_one_server(running: EmbeddedServer, gguf: Path) -> None:
    """Threads that ask at the same time get the same one."""
    options = ServerOptions(n_ctx=1024)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(server.shared, gguf, options=options) for _ in range(8)]
        servers = {future.result() for future in asked}
    assert len(servers) == 1
    assert servers != {running}
    servers.pop().stop()


def test_shared_replaces_a_server_that_died(gguf: Path, post: Callable[..., Any]) -> None:
    """A crash costs one request, not the rest of the run."""
    options = ServerOptions(n_ctx=2048)
    first = server.shared(gguf, options=options)
    os.kill(first.pid, 9)
    while first.alive:
        pass
    second = server.shared(gguf, options=options)
    assert second is not first
    assert post(second.root_url, CHAT, _ask("Hello", max_tokens=1))[0] == 200
    second.stop()


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, 1), (2, 1), (4, 1), (5, 1), (8, 2), (16, 4), (128, 4)]
)
def test_cores_are_left_to_others(cores: int, threads: int) -> None:
    """Never all are used: llama.cpp becomes very slow if its threads wait for a core."""
    assert default_threads(cores) == threads


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_parallel": 0},
        {"n_ctx": 0},
        {"n_ctx": None},
        {"n_ctx": "8k"},
        {"n_threads": 0},
        {"n_gpu_layers": True},
        {"port": 65536},
        {"embeddings": "no"},
        {"startup_timeout": 0},
        {"startup_timeout": "30 s"},
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any]) -> None:
    """llama.cpp would hang, or fail without the name of the option."""
    with pytest.raises(ConfigError, match=f"embedded option '{next(iter(wrong))}' is"):
        replace(ServerOptions(), **wrong)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """A log over the limit starts again; a short one stays."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100)
    with path.open("r+b", buffering=0) as log:
        log.seek(0, os.SEEK_END)
        trim(log.fileno(), limit=100)
        assert path.stat().st_size == 100
        trim(log.fileno(), limit=99)
        log.write(b"next")
    assert path.read_bytes() == b"next"
