"""Prices: the cost of a call by its tokens or by its time.

Public prices of hosted models come from the data of the installed package genai-prices. The data
is used as installed: the package's updates over the network are never started here.
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

    A price is looked up by the server's address, never by the model's name alone: the same model
    name at another server has the price of another vendor.
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

    ``of_tokens`` returns the cost of one request by its usage, or None if the cost is unknown.
    ``a_second`` is the price of the whole server per second; if it is set, tokens cost nothing.
    """

    currency: str = DEFAULT_CURRENCY
    of_tokens: Callable[[Usage], float | None] | None = None
    a_second: float | None = None

    def cost(self, spent: Iterable[Usage], uncounted: int, seconds: float) -> float | None:
        """The cost of one call; None if any part of it is unknown.

        ``spent`` has the usage of each request, ``uncounted`` is the number of requests for which
        the server reported no usage, and ``seconds`` is the call's share of the server's time.
        """
        if self.a_second is not None:
            return seconds * self.a_second
        if self.of_tokens is None or uncounted:
            return None
        total = 0.0
        for usage in spent:
            part = self.of_tokens(usage)
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
        return None if listed is None else Tariff(of_tokens=listed)
    if price.gpu_hour is not None:
        return Tariff(price.currency, a_second=price.gpu_hour / _HOUR_S)
    return Tariff(price.currency, of_tokens=_by_tokens(price))


def _by_tokens(price: Price) -> Callable[[Usage], float | None]:
    assert price.input is not None
    assert price.output is not None
    cached = price.input if price.cached_input is None else price.cached_input
    a_prompt, a_cached, an_output = (p / _MILLION for p in (price.input, cached, price.output))

    def cost(usage: Usage) -> float | None:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            return None
        known = min(usage.cached_tokens or 0, prompt)
        return (prompt - known) * a_prompt + known * a_cached + completion * an_output

    return cost
