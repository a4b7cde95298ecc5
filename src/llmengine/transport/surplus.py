"""Bytes that a server sends after the end of an answer: the connection is closed because of them.

httpx (and httpx2) keeps such bytes with the connection and takes them for the answer to the next
request. Every later prompt on that connection would then get the answer of another prompt. aiohttp
closes such a connection itself.
"""

from __future__ import annotations

from typing import Any

# Attributes that lead from the stream of a response to the parser of its connection, in httpx,
# httpcore and h11.
_WAY = ("_stream", "_httpcore_stream", "_connection", "_h11_state")


async def close_with_surplus(source: Any, extensions: Any) -> None:
    """Close the connection of a response that was read, if it holds more than that response.

    ``source`` is the stream of the response, which must not be closed yet, and ``extensions`` are
    those of the response. There is no public way to get the parser. If httpx changes, this
    function does nothing, and a test in tests/faults fails.
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
