"""``llmengine cassettes``: pack, unpack, verify, diff, lint and show recordings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer, Script
from pytest_llmengine.recording import Provenance, RecordServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
_WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """A server to record, and to verify against."""
    with MockServer(api_key="sk-of-this-server") as server:
        yield server


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the server, where commands look for it."""
    monkeypatch.setenv("LLMENGINE_API_KEY", "sk-of-this-server")


def _record(server: MockServer, path: Path, *requests: tuple[str, Any]) -> Path:
    """Record these requests; a body may be a function of the answer before it."""
    key = {"Authorization": "Bearer sk-of-this-server"}
    with (
        RecordServer(server.root_url, Provenance("mock"), redact_paths=["$.user"]) as recorder,
        recorder.cassette(path),
        httpx.Client(base_url=recorder.root_url, headers=key, trust_env=False) as client,
    ):
        answer = None
        for route, body in requests:
            answer = client.post(route, json=body(answer.json()) if callable(body) else body)
    return path


def test_pack_and_unpack(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Each prints the path that replaces the given one; a path that does not fit is one line."""
    folder, packed = tmp_path / "mine", tmp_path / "mine.zip"
    folder.mkdir()
    (folder / "a.yaml").write_text("version: 1\ninteractions: []\n")

    assert llmengine("cassettes", "pack", folder).out == f"{packed}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]
    again = llmengine("cassettes", "pack", folder)
    assert (again.status, again.err.count("\n")) == (2, 1)
    assert f"there are no recordings to pack in {folder}" in again.err
    assert llmengine("cassettes", "unpack", packed).out == f"{folder}\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "a.yaml"]


def test_verify(server: MockServer, llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Requests are sent with the key; later ones name the live id; a redacted one is not sent."""
    asked = {"model": "mock", "input": "Hello"}
    _record(
        server,
        tmp_path / "a.yaml",
        ("/v1/responses", asked),
        ("/v1/responses", lambda answer: asked | {"previous_response_id": answer["id"]}),
        ("/v1/chat/completions", _CHAT | {"stream": True}),
        ("/v1/chat/completions", _CHAT | {"user": "ada@example.com"}),
    )

    with MockServer(api_key="sk-of-this-server") as later:  # it does not know the recorded ids
        verify = ("cassettes", "verify", tmp_path, "--url", later.base_url)
        same = llmengine(*verify, "--json")
        later.play(Script(replies=["token", "one", "two", {"refusal": "No."}]))
        changed = llmengine(*verify)

    assert same.status == 0
    found = json.loads(same.out)
    assert found["counts"] == {"volatile": 3, "not compared": 1}
    assert "redacted" in found["exchanges"][3]["reason"]
    assert changed.status == 1
    assert changed.out.splitlines()[-1] == "4 exchanges: 2 shape, 1 different, 1 not compared"
    assert "sk-of-this-server" not in same.out + changed.out


def test_verify_needs_a_server(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Each mistake is one line: no server, no engine, no recordings."""
    (tmp_path / "a.yaml").write_text("version: 1\ninteractions: []\n")

    nobody = llmengine("cassettes", "verify", tmp_path, "--url", "http://127.0.0.1:9")
    unnamed = llmengine("cassettes", "verify", tmp_path)
    nothing = llmengine("cassettes", "verify", tmp_path / "none")

    for ran, said in ((nobody, "127.0.0.1:9"), (unnamed, "--url or --engine"), (nothing, "none")):
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert said in ran.err


def test_diff(server: MockServer, llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Exchanges belong together by their requests, whatever their order."""
    hello, bye = (("/v1/chat/completions", _CHAT | {"seed": seed}) for seed in (1, 2))
    before = _record(server, tmp_path / "a" / "x.yaml", hello, bye).parent
    same = _record(server, tmp_path / "b" / "x.yaml", bye, hello).parent
    server.play(Script(replies=["one two three four five"]))
    other = _record(server, tmp_path / "c" / "x.yaml", hello).parent

    assert llmengine("cassettes", "diff", before, same).out == "in both: 2 exchanges: 2 volatile\n"
    changed = llmengine("cassettes", "diff", before, other, "--json")
    assert changed.status == 1
    found = json.loads(changed.out)
    assert found["counts"] == {"shape": 1}
    assert found["only_before"] == [f"{before}/x.yaml 2 POST /v1/chat/completions"]


def _write(path: Path, sent_at: str, build: str) -> Path:
    """A recording of one request that holds the time, with the build of a server."""
    text = f"""
metadata: {{recorded_at: 2026-11-21}}
interactions:
- request: {{body: '{{"sent_at": "{sent_at}"}}', headers: {{}}, method: POST, uri: http://x/v1/chat}}
  response:
    status: {{code: 200, message: OK}}
    headers: {{content-type: [application/json]}}
    body: {{string: '{{"build": "{build}", "choices": []}}'}}
version: 1
"""
    path.write_text(text, encoding="utf-8")
    return path


def test_diff_leaves_out_what_the_project_names(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """A path that differs in every request or answer is neither another exchange nor a change."""
    before = _write(tmp_path / "a.yaml", "10:00", "a1")
    after = _write(tmp_path / "b.yaml", "11:30", "b2")

    ran = llmengine("cassettes", "diff", before, after)
    assert (ran.status, ran.out.count("POST /v1/chat")) == (1, 2)
    ran = llmengine("cassettes", "diff", before, after, "--normalize", "dates")
    assert (ran.status, "1 shape" in ran.out) == (1, True)
    told = ("--ignore-path", "$.sent_at", "--volatile-path", "$.build")
    ran = llmengine("cassettes", "diff", before, after, *told)
    assert (ran.status, "1 volatile" in ran.out) == (0, True)


def test_lint(
    llmengine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of the environment are found by their value; unused recordings need a whole run."""
    monkeypatch.setenv("TEAM_TOKEN", "a-value-like-no-other")
    answer = (
        "{status: {code: 200, message: OK}, headers: {}, body: {string: a-value-like-no-other}}"
    )
    request = "{method: GET, uri: 'http://x/v1/models', body: null, headers: {}}"
    text = f"version: 1\ninteractions:\n- request: {request}\n  response: {answer}\n"
    (tmp_path / "a.yaml").write_text(text)
    played = tmp_path / "played.json"
    played.write_text(json.dumps({"whole_run": True, "played": {}}))

    found = llmengine("cassettes", "lint", tmp_path, "--played", played)
    only_unused = llmengine(
        "cassettes", "lint", tmp_path, "--played", played, "--ignore", "secret", "--json"
    )
    played.write_text(json.dumps({"whole_run": False, "played": {}}))
    some = llmengine("cassettes", "lint", tmp_path, "--played", played)

    assert found.status == 1
    assert "known by its value is in the body of the answer of exchange 1" in found.out
    assert "a-value-like-no-other" not in found.out
    assert [one["what"] for one in json.loads(only_unused.out)["findings"]] == ["no test played it"]
    assert (some.status, "only some tests" in some.err) == (2, True)


def test_show(server: MockServer, llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """A transcript has who said what, the tool call, the end, the tokens and the times."""
    call = _CHAT | {"tools": [_WEATHER], "tool_choice": "required", "max_tokens": 50}
    file = _record(
        server,
        tmp_path / "a.yaml",
        (
            "/v1/chat/completions",
            _CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        ),
        ("/v1/chat/completions", call),
    )

    shown = llmengine("cassettes", "show", file).out.splitlines()
    second = json.loads(llmengine("cassettes", "show", file, "--exchange", "2", "--json").out)
    none = llmengine("cassettes", "show", file, "--exchange", "3")

    rows = dict(line.split(None, 1) for line in shown[3:8])
    assert rows["user"] == "Hello"
    assert len(rows["answer"].split()) == _CHAT["max_tokens"]
    assert rows["ended"].startswith("status 200, length, ")
    assert "first content after" in rows["timing"]
    assert [(part["kind"], part["name"]) for part in second[0]["parts"]] == [
        ("tool_call", "weather")
    ]
    assert (none.status, "none has number 3" in none.err) == (2, True)
