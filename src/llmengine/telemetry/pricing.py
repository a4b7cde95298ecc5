"""Public prices of hosted models, from the data that genai-prices is installed with.

A price is looked up by the server's address, never by the model's name alone: the same name at
another server is another vendor's price. The package's data is used as installed; its updates over
the network are never started here.

From tokens, or from time, to money.
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

    from llmengine.config.engine import Price
    from llmengine.types.outputs import Usage


log = logging.getLogger("llmengine")


def listed_price(url: str, model: str) -> Callable[[Usage], float | None] | None:
    """The cost of a request by its usage, in US dollars; None where no list has it."""
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
    """Whether the address can be a vendor's: a name with a dot, no number."""
    host = urlsplit(url).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return "." in host
    return False


_MILLION = 1_000_000
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Tariff:
    """How one engine's calls are priced, in ``currency``.

    ``of_tokens`` is the cost of one request by its usage, None where that is unknown.
    ``a_second`` is what the whole server costs; where it is set, tokens do not count.
    """

    currency: str = "USD"
    of_tokens: Callable[[Usage], float | None] | None = None
    a_second: float | None = None

    def cost(self, spent: Iterable[Usage], uncounted: int, seconds: float) -> float | None:
        """The cost of one call; None if any part of it is unknown.

        ``spent`` has the usage of each request, ``uncounted`` is the number of requests whose
        usage nobody told, and ``seconds`` is the call's share of the server's time.
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


def tariff_of(price: Price | None, url: str, model: str) -> Tariff:
    """The tariff by the configured price, else by the public price list for that address."""
    if price is None:
        return Tariff(of_tokens=listed_price(url, model))
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
