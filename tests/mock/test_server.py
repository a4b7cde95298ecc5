"""Starting, stopping and sharing a server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

import llmengine.mock
from llmengine import ConfigError
from llmengine.mock import Fault, MockServer, ReceivedRequest, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api


def test_addresses() -> None:
    """Both addresses are on loopback, and the address of the API ends in /v1."""
    with MockServer() as server:
        assert server.base_url == f"{server.root_url}/v1"
        assert server.root_url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.base_url}/models").status_code == 200


def test_port_is_closed_after_the_end() -> None:
    """After the block nothing answers, and the thread has ended."""
    with MockServer() as server:
        url = server.base_url
        threads = threading.active_count()

    assert threading.active_count() == threads - 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")


def test_stop_does_not_wait_for_answers(start: Callable[..., Api]) -> None:
    """A request without an answer is dropped when the server stops; a second stop has no effect."""
    api = start(script=Script(faults=[Fault(delay=600)]))
    failed: list[Exception] = []

    def hang() -> None:
        try:
            api.chat()
        except httpx.HTTPError as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    while not api.server.calls:
        threading.Event().wait(0.001)
    api.server.stop()
    api.server.stop()
    thread.join(10)

    assert len(failed) == 1


def test_taken_port_is_one_line() -> None:
    """A port in use is a ConfigError that names the address and says what to do."""
    with MockServer() as server:
        port = int(server.root_url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*choose another port"):
            MockServer(port=port).start()


def test_chosen_port_is_used() -> None:
    """A server listens on the given port, and so does a second one after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        with MockServer(port=port) as server:
            assert server.root_url == f"http://127.0.0.1:{port}"
            assert httpx.get(f"{server.root_url}/health").status_code == 200


def test_calls_at_once_keep_apart(reference: Api) -> None:
    """Of many requests at once, streamed or not, each gets its own answer with its own id."""

    def ask(number: int) -> tuple[str, str]:
        prompt = f"Repeat exactly: marker-{number}"
        if number % 2:
            chunks = reference.chunks(prompt)
            text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
            return text, chunks[0]["id"]
        body = reference.chat(prompt).json()
        return body["choices"][0]["message"]["content"], body["id"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))

    assert [text for text, _ in answers] == [f"marker-{n}" for n in range(64)]
    assert len({given for _, given in answers}) == 64


def test_connection_is_kept_through_streams(reference: Api) -> None:
    """A pooled connection serves one request after the other."""
    with socket.create_connection(_address(reference.server)) as raw, raw.makefile("rb") as read:
        for _ in range(3):
            body = b'{"model":"mock","prompt":"x","stream":true}'
            start = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
            head = f"content-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
            raw.sendall(start + head.encode() + body)
            assert read.readline().startswith(b"HTTP/1.1 200")
            while read.readline() != b"0\r\n":
                pass
            assert read.readline() == b"\r\n"


def test_body_may_come_in_chunks(reference: Api) -> None:
    """A request without a length is read to its end."""
    parts = [b'{"model":"mock",', b'"prompt":"x"}']
    headers = {"content-type": "application/json"}

    response = reference.http.post("/v1/completions", content=iter(parts), headers=headers)
    assert response.status_code == 200


def _address(server: MockServer) -> tuple[str, int]:
    host, _, port = server.root_url.removeprefix("http://").partition(":")
    return host, int(port)


def test_import_is_light() -> None:
    """Neither the package nor the hooks import a web framework."""
    heavy = "{'starlette', 'uvicorn', 'jsonschema'} & set(sys.modules)"
    code = f"import sys, llmengine.mock; sys.exit(repr({heavy}) if {heavy} else 0)"

    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.stderr == ""
    assert result.returncode == 0


def test_old_name_of_a_request_is_deprecated() -> None:
    """``Call`` is still the class of received requests, with a warning that names the new one."""
    with pytest.warns(DeprecationWarning, match=r"llmengine\.mock\.Call is now ReceivedRequest"):
        old = llmengine.mock.Call

    assert old is ReceivedRequest


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    assert not hasattr(llmengine.mock, "ReceivedReqest")
