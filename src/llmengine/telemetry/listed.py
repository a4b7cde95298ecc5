"""Public prices of hosted models, from the data that genai-prices is installed with.

A price is looked up by the server's address, never by the model's name alone: the same name at
another server is another vendor's price. The package's data is used as installed; its updates over
the network are never started here.
"""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.telemetry.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable

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
