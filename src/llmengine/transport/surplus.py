"""Closing of connections on which a server sends bytes after the end of an answer.

httpx (and httpx2) keeps such bytes and takes them for the answer to the next request on the same
connection. Every later prompt on that connection would then get the answer of another prompt.
aiohttp closes such a connection itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Attributes that lead from the stream of a response to the parser of its connection, in httpx,
# httpcore and h11.
_PATH = ("_stream", "_httpcore_stream", "_connection", "_h11_state")


async def close_with_surplus(source: object, extensions: Mapping[str, object]) -> None:
    """Close the connection of a response that was read, if it holds more than that response.

    ``source`` is the stream of the response, which must not be closed yet, and ``extensions`` are
    those of the response. There is no public way to get the parser. If httpx changes, this
    function does nothing, and a test in tests/faults fails.
    """
    parser = source
    while not hasattr(parser, "trailing_data"):
        name = next((name for name in _PATH if hasattr(parser, name)), None)
        if name is None:
            return
        parser = getattr(parser, name)
    data, _ = parser.trailing_data
    connection = extensions.get("network_stream")
    if data and hasattr(connection, "aclose"):
        await connection.aclose()
