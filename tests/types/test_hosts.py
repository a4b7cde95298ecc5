"""The host names for which a local server answers."""

from __future__ import annotations

import pytest

from llmengine.types.hosts import AllowedClients


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1:80",
        "127.9.9.9",
        "[::1]:5",
    ],
)
def test_names_of_this_machine_are_taken(host: str) -> None:
    """With and without a port, in any case."""
    assert AllowedClients.of().refusal(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "evillocalhost",
        "localhost@evil.example",
        "[::1",
        "",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    """A web page reaches this machine only by a name of its own."""
    assert "--allow-host" in str(AllowedClients.of().refusal(host))


def test_configured_names_are_taken_as_well() -> None:
    """In any case; without a port in the setting, whatever the port of the request."""
    clients = AllowedClients.of(["Mock.Internal"])

    assert clients.refusal("mock.internal:8000") is None
    assert clients.refusal("localhost") is None
    assert clients.refusal("other.internal") is not None


def test_server_that_is_open_to_its_network_takes_every_name_by_default() -> None:
    """A server at 0.0.0.0 cannot know the names by which it is reached."""
    assert AllowedClients.of(listens_on="0.0.0.0").refusal("mock.internal") is None
    assert AllowedClients.of(["a"], listens_on="0.0.0.0").refusal("mock.internal") is not None


def test_request_without_a_host_is_taken() -> None:
    """HTTP/1.0 has no Host header."""
    assert AllowedClients.of().refusal(None) is None
