"""The SDK's client of one engine."""

from __future__ import annotations

from functools import lru_cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from llmengine.transport.decompression import ACCEPT_ENCODING, unpacked
from llmengine.transport.surplus import close_with_surplus
from llmengine.types.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from llmengine.transport.answer_limits import AnswerLimits

_NO_KEY = "EMPTY"  # the SDK wants one


def sdk_headers(key: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """The configured headers and the key, with one spelling of Authorization."""
    ours = {"Authorization": Secret(f"Bearer {key}")} if key else {}
    spelled = {"Authorization" if k.lower() == "authorization" else k: v for k, v in given.items()}
    return ours | spelled


def without_key(sdk: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """What every request says for there to be no Authorization header, if there is none."""
    return {} if "Authorization" in headers else {"Authorization": sdk.Omit()}


def make_client(
    sdk: Any, base_url: str, headers: Mapping[str, str], query: str, connections: Any
) -> Any:
    """An AsyncOpenAI that sends to `base_url` through `connections`, never twice.

    Address and key are always given, or else the SDK would look for them in the environment,
    where they may be meant for another server. What it sends as the key is in `headers`. Every
    request carries the query string `query`.
    """
    return sdk.AsyncOpenAI(
        base_url=base_url,
        api_key=_NO_KEY,
        default_headers=headers,
        default_query=dict(parse_qsl(query, keep_blank_values=True)),
        max_retries=0,  # the engine's own retries count every attempt; two layers would multiply
        http_client=connections,
    )


def make_connections(sdk: Any, limits: AnswerLimits) -> Any:
    """The connections of all such clients of one loop: without cookies and without redirects.

    A redirect would carry the key to another address. Answers are read within the limits.
    """
    nobody = DefaultCookiePolicy(allowed_domains=[])
    return sdk.DefaultAsyncHttpxClient(
        follow_redirects=False,
        cookies=CookieJar(nobody),
        headers={"Accept-Encoding": ACCEPT_ENCODING},
        event_hooks={"response": [partial(_bound, limits)]},
    )


async def _bound(limits: AnswerLimits, response: Any) -> None:
    """Put our own reading of the body in the place of the HTTP client's, before it begins."""
    if response.is_stream_consumed:
        return  # the answer of a mock, which is whole already
    encoding = response.headers.pop("Content-Encoding", "")
    kinds = type(response.stream).__mro__
    kind = next(kind for kind in kinds if kind.__name__ == "AsyncByteStream")
    response.stream = _bounded(kind)(response, encoding, limits)


@lru_cache(2)
def _bounded(kind: Any) -> Any:
    """The class of our streams, for one generation of the HTTP client (httpx or httpx2)."""

    class BoundedStream(kind):  # type: ignore[misc]  # found by name
        def __init__(self, response: Any, encoding: str, limits: AnswerLimits) -> None:
            self._source, self._extensions = response.stream, response.extensions
            self._pieces = unpacked(self._source, encoding, limits)

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._pieces

        async def aclose(self) -> None:
            await close_with_surplus(self._source, self._extensions)
            await self._source.aclose()

    return BoundedStream
