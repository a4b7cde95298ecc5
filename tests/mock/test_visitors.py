"""Web pages cannot use the mock server unless it is configured to allow them."""

from __future__ import annotations

import httpx
import pytest

from llmengine.mock import MockServer

_PAGE = "http://page.example"


def _asked(url: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}/v1/models", headers=headers, trust_env=False)


def test_name_of_another_host_is_refused_and_not_counted() -> None:
    """A request with an unknown host name (DNS rebinding) gets a 403 that says what to do."""
    with MockServer() as server:
        refused = _asked(server.root_url, Host="evil.example")

    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "host_not_allowed"
    assert "'evil.example'" in refused.json()["error"]["message"]
    assert server.calls == []


def test_allowed_name_is_answered() -> None:
    """A name in allowed_hosts is accepted, such as the one in a container's network."""
    with MockServer(allowed_hosts=["mock.internal"]) as server:
        assert _asked(server.root_url, Host="mock.internal:80").status_code == 200


def test_pages_read_nothing_by_default() -> None:
    """By default there is no CORS header, also in the answer to a preflight request."""
    with MockServer() as server:
        asked = httpx.options(
            f"{server.base_url}/models",
            headers={"Origin": _PAGE, "Access-Control-Request-Method": "GET"},
        )
        answered = _asked(server.root_url, Origin=_PAGE)

    for reply in (asked, answered):
        assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(("origin", "allowed"), [(_PAGE, _PAGE), ("http://other.example", None)])
def test_page_that_may_read(origin: str, allowed: str | None) -> None:
    """Only the configured origin is allowed."""
    with MockServer(cors=[_PAGE]) as server:
        reply = _asked(server.root_url, Origin=origin)

    assert reply.headers.get("access-control-allow-origin") == allowed
