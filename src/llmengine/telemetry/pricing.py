"""Prices: the cost of a call, by its tokens or by its time.

Public prices of hosted models come from the data of the installed package genai-prices. The data
is used as installed; this module never starts the package's updates over the network.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.telemetry.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmengine.config.settings import Price
    from llmengine.types.outputs import Usage


log = logging.getLogger("llmengine")


def listed_price(url: str, model: str) -> Callable[[Usage], float | None] | None:
    """A function from usage to cost in US dollars, by public prices; None if there is no price.

    A price is looked up by the server's address, never by the model's name alone, because the same
    model has other prices at other vendors.
    """
    if not _public(url):
        return None
    try:
        import genai_prices  # noqa: PLC0415 - optional, and 0.2 s to import
    except ImportError:
        return None

    @harmless
    def cost(usage: Usage) -> float | None:
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        counted = genai_prices.Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=min(usage.cached_tokens or 0, usage.prompt_tokens),
        )
        price = genai_prices.calc_price(counted, model, provider_api_url=url)
        return float(price.total_price)

    try:
        genai_prices.calc_price(genai_prices.Usage(), model, provider_api_url=url)
    except LookupError as error:
        log.debug("no listed price: %s", error)
        return None
    return cost


def _public(url: str) -> bool:
    """Whether the address can belong to a vendor: a host name with a dot, not an IP address."""
    host = urlsplit(url).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return "." in host
    return False


DEFAULT_CURRENCY = "USD"
_MILLION = 1_000_000
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Tariff:
    """How the calls of one engine are priced, in ``currency``.

    ``token_cost`` returns the cost of one request by its usage, or None if the cost is unknown.
    ``per_second`` is the price of the whole server per second; if it is set, tokens cost nothing.
    """

    currency: str = DEFAULT_CURRENCY
    token_cost: Callable[[Usage], float | None] | None = None
    per_second: float | None = None

    def cost(self, spent: Iterable[Usage], uncounted: int, seconds: float) -> float | None:
        """The cost of one call; None if any part of it is unknown.

        ``spent`` has the usage of each request, ``uncounted`` is the number of requests for which
        the server reported no usage, and ``seconds`` is the call's share of the server's time.
        """
        if self.per_second is not None:
            return seconds * self.per_second
        if self.token_cost is None or uncounted:
            return None
        total = 0.0
        for usage in spent:
            part = self.token_cost(usage)
            if part is None:
                return None
            total += part
        return total


def tariff_of(price: Price | None, url: str, model: str) -> Tariff | None:
    """The tariff: by the configured price if there is one, else by the public price list.

    None if neither has a price.
    """
    if price is None:
        listed = listed_price(url, model)
        return None if listed is None else Tariff(token_cost=listed)
    if price.gpu_hour is not None:
        return Tariff(price.currency, per_second=price.gpu_hour / _HOUR_S)
    return Tariff(price.currency, token_cost=_by_tokens(price))


def _by_tokens(price: Price) -> Callable[[Usage], float | None]:
    assert price.input is not None
    assert price.output is not None
    cached = price.input if price.cached_input is None else price.cached_input
    per_input, per_cached, per_output = (p / _MILLION for p in (price.input, cached, price.output))

    def cost(usage: Usage) -> float | None:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            return None
        hits = min(usage.cached_tokens or 0, prompt)
        return (prompt - hits) * per_input + hits * per_cached + completion * per_output

    return cost
