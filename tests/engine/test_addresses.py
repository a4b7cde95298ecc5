"""The forms in which people write the address of a server."""

from __future__ import annotations

import pytest

from llmengine import ConfigError
from llmengine.config.address import base_of, normal_endpoint, root_of


@pytest.mark.parametrize(
    ("given", "root", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000", "http://localhost:8000/v1"),
        ("https://g.example/openai/v1", "https://g.example/openai", "https://g.example/openai/v1"),
        ("https://g.example/api/v3", "https://g.example/api/v3", "https://g.example/api/v3"),
        ("localhost", "http://localhost:11434", "http://localhost:11434/v1"),
        (":11501", "http://127.0.0.1:11501", "http://127.0.0.1:11501/v1"),
        (":11501/v1", "http://127.0.0.1:11501", "http://127.0.0.1:11501/v1"),
        ("0.0.0.0:5", "http://127.0.0.1:5", "http://127.0.0.1:5/v1"),
        ("[::1]:5", "http://[::1]:5", "http://[::1]:5/v1"),
    ],
)
def test_endpoint_has_one_root_and_one_base(given: str, root: str, base: str) -> None:
    """Every spelling gives clients the same two addresses."""
    endpoint = normal_endpoint(given, default_port=11434)

    assert (root_of(endpoint), base_of(endpoint)) == (root, base)


@pytest.mark.parametrize("given", ["ftp://host", "http://", "http://host:port", "http://[::1"])
def test_invalid_address_is_refused(given: str) -> None:
    """The message shows the address and the form that one must have."""
    with pytest.raises(ConfigError, match="write it like http://host:port"):
        normal_endpoint(given)
