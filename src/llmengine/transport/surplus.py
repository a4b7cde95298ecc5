"""Bytes that a server sends after an answer, which nobody asked for.

httpx (and httpx2) keeps them with the connection and takes them for the answer to the next request,
and so every later prompt on that connection would get the answer of another. aiohttp closes such a
connection itself.
"""

from __future__ import annotations

from typing import Any

# From the stream of a response to the parser of its connection, in httpx, httpcore and h11.
_WAY = ("_stream", "_httpcore_stream", "_connection", "_h11_state")


async def close_with_surplus(source: Any, extensions: Any) -> None:
    """Close the connection of a response that was read, if it holds more than that response.

    ``source`` is the stream of the response, to be called before that is closed, and
    ``extensions`` are the response's. There is no public way to the parser: if httpx changes, this
    does nothing, and tests/faults says so.
    """
    parser = source
    while not hasattr(parser, "trailing_data"):
        name = next((name for name in _WAY if hasattr(parser, name)), None)
        if name is None:
            return
        parser = getattr(parser, name)
    data, _ = parser.trailing_data
    if data and "network_stream" in extensions:
        await extensions["network_stream"].aclose()
