"""Cost of tokens and hours."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import ConfigError, EngineConfig, InvalidFieldError, Price, Usage, load_engines
from llmengine.telemetry.pricing import tariff_of

URL = "http://127.0.0.1:1/v1"


def cost(price: Price | None, *spent: Usage, uncounted: int = 0, seconds: float = 0.0) -> Any:
    """The cost of a call with that usage."""
    tariff = tariff_of(price, URL, "m")
    return None if tariff is None else tariff.cost(spent, uncounted, seconds)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(1_000_000, 0), 2.0),
        (Usage(0, 1_000_000), 8.0),
        (Usage(1_000_000, 500_000, cached_tokens=400_000), 0.6 * 2 + 0.4 * 0.5 + 4.0),
        (Usage(1_000_000, 500_000, reasoning_tokens=300_000), 2.0 + 4.0),
        (Usage(100, 0, cached_tokens=200), 100 * 0.5e-6),
        (Usage(0, 0), 0.0),
    ],
    ids=["prompt", "completion", "cached", "reasoning", "more_cached_than_there_are", "nothing"],
)
def test_price_per_million_tokens(usage: Usage, expected: float) -> None:
    """Cached tokens have their own price; reasoning is part of the completion and paid once."""
    price = Price(input=2, output=8, cached_input=0.5)

    assert cost(price, usage) == pytest.approx(expected)


def test_cached_tokens_without_a_price_cost_as_others() -> None:
    """Without ``cached_input`` there is no discount."""
    assert cost(Price(input=2, output=8), Usage(1_000_000, 0, cached_tokens=1_000_000)) == 2.0


def test_requests_add_up() -> None:
    """A call costs the sum of its requests."""
    price = Price(input=1, output=1)

    assert cost(price, Usage(1_000_000, 0), Usage(0, 2_000_000)) == 3.0


@pytest.mark.parametrize("usage", [Usage(), Usage(10), Usage(None, 10), Usage(total_tokens=20)])
def test_unknown_count_has_no_price(usage: Usage) -> None:
    """A missing count makes the cost unknown, also beside a whole one."""
    assert cost(Price(input=1, output=1), Usage(10, 10), usage) is None


def test_a_request_of_unknown_usage_has_no_price() -> None:
    """A request without usage may have cost something."""
    assert cost(Price(input=1, output=1), Usage(10, 10), uncounted=1) is None


def test_no_price_is_not_nothing() -> None:
    """Without a price the cost is None; with a price of 0 it is 0."""
    assert cost(None, Usage(10, 10)) is None
    assert cost(Price(input=0, output=0), Usage(10, 10)) == 0.0


def test_an_hour_is_paid_whatever_the_tokens() -> None:
    """With a price for the hour, only time counts."""
    price = Price(gpu_hour=3.6, currency="EUR")

    assert cost(price, seconds=10.0, uncounted=1) == pytest.approx(0.01)
    assert tariff_of(price, URL, "m").currency == "EUR"


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ({"input": 1}, "{input: ..., output: ...}"),
        ({"input": 1, "output": 1, "gpu_hour": 1}, "or {gpu_hour: ...}"),
        ({}, "{gpu_hour: ...}"),
        ({"gpu_hour": -1}, "at least 0"),
        ({"gpu_hour": True}, "give a number"),
        ({"gpu": 1}, "unknown price 'gpu'"),
        (3, "a mapping such as"),
    ],
)
def test_wrong_prices_are_refused(price: Any, words: str) -> None:
    """A price that is empty or contradicts itself is an error that shows a right one."""
    with pytest.raises(InvalidFieldError, match=words.replace("{", r"\{").replace(".", r"\.")):
        EngineConfig(backend="mock", model="m", price=price)


def test_price_in_an_engines_file(tmp_path: Any) -> None:
    """YAML may have a price, and the error of a wrong one names the field."""
    file = tmp_path / "engines.yaml"
    file.write_text("- {name: h100, backend: mock, model: m, price: {gpu_hour: 2.5}}")

    assert load_engines(file)["h100"].price == Price(gpu_hour=2.5)

    file.write_text("- {name: h100, backend: mock, model: m, price: {hour: 2.5}}")
    with pytest.raises(ConfigError, match=r"\(h100\): price: unknown price 'hour'"):
        load_engines(file)
