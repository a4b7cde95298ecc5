"""Terminal escapes of a model or a server are shown as text, not obeyed."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pytest_llmengine.recording import Provenance, RecordServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ATTACK = "\x1b]0;pwned\x07\x1b[2J\x9b2J\u202egnp.exe"
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def hostile(raw_server: Any, chat: Any) -> Any:
    """A server that sends escapes in its model's name, its refusals and its answers."""

    def answer(request: Any, connection: Any) -> None:
        if request.method == "GET":
            connection.reply({"data": [{"id": f"m{_ATTACK}"}], "version": f"1{_ATTACK}"})
        elif b"refuse" in request.body:
            connection.reply({"error": {"message": _ATTACK, "code": _ATTACK}}, status=400)
        else:
            connection.reply(chat(_ATTACK) | {"model": f"m{_ATTACK}"})

    return raw_server(answer)


def test_batch(program: Callable[..., Any], hostile: Any, tmp_path: Path) -> None:
    """The output quotes the refusal of a line."""
    body = {"model": "m", "messages": [{"role": "user", "content": "refuse"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))

    ran = program(
        "batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--url", hostile.url
    )

    assert ran.status == 1
    assert r"\x1b]0;pwned\x07" in ran.err
    assert not _UNSAFE.search(ran.out + ran.err)


def test_engines_check(program: Callable[..., Any], hostile: Any, tmp_path: Path) -> None:
    """The output has the model and the version of the server."""
    entry = {"name": "e", "backend": "vllm_api", "model": "", "endpoint": hostile.url}
    (tmp_path / "engines.yaml").write_text(json.dumps([entry]))

    ran = program("engines", "check", "--config", tmp_path / "engines.yaml")

    assert r"\x1b" in ran.out
    assert not _UNSAFE.search(ran.out + ran.err)


def test_replay(serving: Callable[..., Any], hostile: Any, tmp_path: Path) -> None:
    """The output has the origin and the contents of a cassette."""
    file = tmp_path / "tape.yaml"
    facts = Provenance(engine=f"e{_ATTACK}", model=_ATTACK)
    with RecordServer(hostile.url, facts) as recorder, recorder.cassette(file):
        httpx.post(f"{recorder.root_url}/v1/chat", json={"say": _ATTACK}, trust_env=False)

    with serving("replay", file) as (process, url):
        httpx.post(f"{url}/v1/chat", json={"say": "another"}, trust_env=False)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert "Nearest of 1" in said
    assert r"\x1b" in said
    assert not _UNSAFE.search(said)


def test_error_of_a_command(program: Callable[..., Any], tmp_path: Path) -> None:
    """The line on standard error quotes files."""
    (tmp_path / "engines.yaml").write_text(json.dumps([{"name": _ATTACK, "backend": "b"}]))

    ran = program("engines", "list", "--config", tmp_path / "engines.yaml")

    assert ran.status == 2
    assert r"\x1b]0;pwned" in ran.err
    assert not _UNSAFE.search(ran.out + ran.err)
