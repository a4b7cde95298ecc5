"""Prices from genai-prices, offline."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from llmengine import Usage
from llmengine.telemetry.pricing import tariff_of

OPENAI = "https://api.openai.com/v1/chat/completions"

pytest.importorskip("genai_prices")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: Any) -> None:
    """Any attempt to open a socket fails the test."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


def cost(url: str, model: str, usage: Usage) -> float | None:
    """The listed cost of one request."""
    tariff = tariff_of(None, url, model)
    return None if tariff is None else tariff.cost([usage], 0, 1.0)


def test_known_model_at_its_vendor() -> None:
    """The vendor's price holds, with its own for cached tokens, and needs no network."""
    plain = cost(OPENAI, "gpt-4o-mini", Usage(1_000_000, 0))
    cached = cost(OPENAI, "gpt-4o-mini", Usage(1_000_000, 0, cached_tokens=1_000_000))

    assert plain == pytest.approx(0.15)
    assert cached is not None
    assert 0 < cached < 0.15


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("http://127.0.0.1:8000/v1/chat/completions", "gpt-4o-mini"),
        ("http://localhost:11434/api/chat", "gpt-4o-mini"),
        ("https://mine.example.com/v1/chat/completions", "gpt-4o-mini"),
        (OPENAI, "no-such-model"),
    ],
)
def test_another_vendors_price_is_never_taken(url: str, model: str) -> None:
    """An unknown server has no price, even if its model has a known name."""
    assert cost(url, model, Usage(10, 10)) is None


def test_unknown_usage_has_no_price() -> None:
    """A listed price needs both counts."""
    assert cost(OPENAI, "gpt-4o-mini", Usage(10, None)) is None
