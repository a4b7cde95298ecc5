"""`llmengine verify` on gateways that need headers, and on several servers of one backend."""

from __future__ import annotations

import json
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from llmengine.mock import Behaviour, MockServer, RawReply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import ReceivedRequest

ROUTE, KEY = "upstream-7", "pk-4f9a0c2b7d6e1835"
CHECKS = ("--check", "chat.basic.required_fields", "--check", "chat.stream.object_const")


def _routed(reply: RawReply, call: ReceivedRequest) -> RawReply:
    """Answer only requests with both headers; and quote the key in an answer, as some gateways."""
    headers = call.headers
    if headers.get("x-route") == ROUTE and headers.get("x-gateway-api-key") == KEY:
        return reply
    body = json.dumps({"error": {"message": f"no route; the key is not {KEY}"}}).encode()
    return RawReply(400, {"content-type": "application/json"}, [body])


GATEWAY = Behaviour("routes by header", wire=_routed)


def _texts(folder: Path) -> str:
    return "".join(p.read_text("utf-8") for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("mode", ["live", "record"])
def test_headers_of_the_command_reach_every_request(
    mode: str, llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """A gateway that routes by header passes, and no output holds the key."""
    reports = [arg for end in ("json", "md", "html") for arg in ("--report", tmp_path / f"r.{end}")]
    with MockServer(behaviour=GATEWAY) as server:
        ran = llmengine(
            "verify", "--url", server.root_url, "--model", "mock", *CHECKS, *reports,
            "--mode", mode, "--cassettes", tmp_path / "c", "--header", f"x-route: {ROUTE}",
            "--header", f"X-Gateway-Api-Key: {KEY}",
        )  # fmt: skip
    assert ran.status == 0, ran.out + ran.err
    assert KEY not in ran.out + ran.err + _texts(tmp_path)


def test_headers_of_the_engines_file_reach_every_request(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The option adds to them and replaces one of the same name."""
    file = tmp_path / "engines.yaml"
    with MockServer(behaviour=GATEWAY) as server:
        file.write_text(
            "- name: gate\n  backend: openai_compatible\n  model: mock\n"
            f"  endpoint: {server.base_url}\n"
            f"  headers: {{X-Route: nowhere, X-Gateway-Api-Key: {KEY}}}\n",
            encoding="utf-8",
        )
        gate = ("verify", "--engine", "gate", "--config", file, *CHECKS)
        ran = llmengine(*gate, "--header", f"x-route: {ROUTE}")
        without = llmengine(*gate)
    assert ran.status == 0, ran.out + ran.err
    assert without.status != 0
    assert KEY not in ran.out + ran.err + without.out + without.err


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (f"Bearer {KEY}", 'header 1 has no colon; write it as "Name: value"'),
        (f"bad name: {KEY}", "header 1: 'bad name' is not the name of a header"),
        (f"X-Key: {KEY}\nx", "header 1: the value of 'X-Key' holds a line break"),
    ],
)
def test_text_that_is_not_a_header_is_refused(
    header: str, said: str, llmengine: Callable[..., Any]
) -> None:
    """One line says what is wrong, without the value."""
    ran = llmengine("verify", "--engine", "mock", "--header", header)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert KEY not in ran.err


def test_the_recorder_adds_headers(serving: Callable[..., Any], tmp_path: Path) -> None:
    """A client that knows no header of the gateway is recorded through it."""
    with (
        MockServer(behaviour=GATEWAY) as server,
        serving(
            "record", tmp_path, "--upstream", server.root_url, "--header", f"x-route: {ROUTE}",
            "--header", f"x-gateway-api-key: {KEY}",
        ) as (process, url),
    ):  # fmt: skip
        body = {"model": "mock", "messages": [{"role": "user", "content": "Hello."}]}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False)
        process.terminate()
        process.wait(20)
    assert reply.status_code == 200
    assert "chat.completion" in _texts(tmp_path)
    assert KEY not in _texts(tmp_path)


def test_two_servers_do_not_share_a_folder(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Their recordings are under host and port, or under the given name; both are replayed."""
    record = ("verify", *CHECKS[:2], "--cassettes", tmp_path, "--mode", "record")
    with MockServer() as one, MockServer() as two:
        for server in (one, two):
            assert llmengine(*record, "--url", server.root_url).status == 0
        llmengine(*record, "--url", two.root_url, "--name", "my-gateway")
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == sorted(
        [*(urlsplit(s.root_url).netloc.replace(":", "-") for s in (one, two)), "my-gateway"]
    )

    replay = ("verify", *CHECKS[:2], "--cassettes", tmp_path, "--mode", "replay")
    report = tmp_path / "r.json"
    by_url = llmengine(*replay, "--url", one.root_url)
    by_name = llmengine(*replay, "--engine", "my-gateway", "--report", report)
    which = llmengine(*replay, "--engine", "openai_compatible")
    assert (by_url.status, by_name.status) == (0, 0), by_url.err + by_name.err
    assert which.status == 2
    assert "has recordings of several servers" in which.err
    assert "127.0.0.1-" in which.err
    provenance = json.loads(report.read_text("utf-8"))["provenance"]
    assert (provenance["engine"], provenance["name"]) == ("my-gateway", "my-gateway")


def test_older_recordings_of_an_address_are_replayed(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """They are in the folder of the backend, and are used if the address has none."""
    tapes = ("verify", *CHECKS[:2], "--cassettes", tmp_path)
    with MockServer() as server:
        generic = ("--engine", "openai_compatible", "--url", server.root_url)
        assert llmengine(*tapes, *generic, "--mode", "record").status == 0
    ran = llmengine(*tapes, "--url", server.root_url, "--mode", "replay")
    assert ran.status == 0, ran.err


def _late(path: str, seconds: float) -> Behaviour:
    """A server that does not answer on one path for so many seconds."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if call.path == path:
            sleep(seconds)
        return reply

    return Behaviour("late", wire=wire)


def _broken(path: str) -> Behaviour:
    """A server that answers one path with 500."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        body = b'{"error": {"message": "database is down"}}'
        failed = RawReply(500, {"content-type": "application/json"}, [body])
        return failed if call.path == path else reply

    return Behaviour("broken", wire=wire)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (_broken("/v1/models"), "(GET /models: HTTP 500: database is down"),
        (_late("/version", 1.3), "(GET /version: the answer from "),
    ],
    ids=["models", "version"],
)
def test_a_server_that_does_not_describe_itself_is_checked(
    behaviour: Behaviour, said: str, llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """If a model is named and the chat answers, one line says what is missing."""
    file = tmp_path / "engines.yaml"
    with MockServer(behaviour=behaviour) as server:
        file.write_text(
            "- {name: odd, backend: openai_compatible, model: mock, timeout: 1, "
            f"endpoint: '{server.base_url}'}}\n",
            encoding="utf-8",
        )
        ran = llmengine("verify", "--engine", "odd", "--config", file, *CHECKS)
    assert ran.status == 0, ran.err
    assert said in ran.out.splitlines()[0]  # lines in a pipe are not wrapped


def test_version_of_a_gateway_is_read_from_its_headers(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The report has the name and the version of the program."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        del call
        reply.headers = {**reply.headers, "x-litellm-version": "1.106.12", "server": "uvicorn"}
        return reply

    report = tmp_path / "r.json"
    with MockServer(behaviour=Behaviour("gateway", wire=wire)) as server:
        llmengine("verify", "--url", server.root_url, *CHECKS[:2], "--report", report)
    provenance = json.loads(report.read_text("utf-8"))["provenance"]
    assert (provenance["name"], provenance["version"]) == ("LiteLLM", "1.106.12")
