"""Web pages can talk to the recorder or the replayer only if the user allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from tests.recording.conftest import Ask, RawUpstream, Whole

_PAGE = "http://page.example"
_OPEN = "Access-Control-Allow-Origin: *\r\n"


@pytest.fixture
def replayed(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Callable[..., Any]:
    """A replayer of one answer, whose server allowed every page to read it."""
    upstream.will_send(whole(b"{}", headers=_OPEN))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        assert "access-control-allow-origin" not in ask(recorder.root_url).headers
    return ReplayServer


def test_name_of_another_host_is_refused(
    replayed: Callable[..., Any], path: Path, ask: Ask
) -> None:
    """The page gets a 403, and the run does not fail because of it."""
    with replayed() as player, player.cassette(path) as tape:
        refused = ask(player.root_url, headers={"Host": "evil.example"})
        assert refused.status_code == 403
        assert "--allow-host" in refused.json()["error"]["message"]
        assert ask(player.root_url).status_code == 200
    assert tape.unhandled == []


def test_recorder_forwards_nothing_for_another_host(
    upstream: RawUpstream, path: Path, ask: Ask
) -> None:
    """The recorded server does not get the request."""
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        assert ask(recorder.root_url, headers={"Host": "evil.example"}).status_code == 403
    assert upstream.requests == []


def test_allowed_name_is_answered(replayed: Callable[..., Any], path: Path, ask: Ask) -> None:
    """For example the name by which a container reaches its host."""
    with replayed(allowed_hosts=["host.docker.internal"]) as player, player.cassette(path):
        reply = ask(player.root_url, headers={"Host": "host.docker.internal:5000"})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("cors", "allowed"), [([], None), ([_PAGE], _PAGE), (["*"], _PAGE), (["http://b"], None)]
)
def test_which_pages_read_answers_is_asked_for(
    replayed: Callable[..., Any], path: Path, ask: Ask, cors: list[str], allowed: str | None
) -> None:
    """The permission of the recorded server does not count."""
    with replayed(cors=cors) as player, player.cassette(path):
        reply = ask(player.root_url, headers={"Origin": _PAGE})
    assert reply.headers.get("access-control-allow-origin") == allowed


def test_browser_may_ask_before_it_sends(
    replayed: Callable[..., Any], path: Path, client: httpx.Client
) -> None:
    """The proxy answers a preflight, which is not a request of the page."""
    asked = {"Origin": _PAGE, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization"
    with replayed(cors=[_PAGE], repeats=True) as player, player.cassette(path) as tape:
        reply = client.options(f"{player.root_url}/v1/chat", headers=asked)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-headers"] == "authorization"
    assert tape.unhandled == []
