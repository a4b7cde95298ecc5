"""Gateways in front of an OpenAI-compatible server that change requests or answers.

A gateway is an async function. It gets the body of a chat request, and a function that sends a
body to the server and returns the answer; it returns the answer that the client gets.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

Body = dict[str, Any]
Send = Callable[[Body], Awaitable[Body]]
Gateway = Callable[[Body, Send], Awaitable[Body]]

_SECONDS = 120.0


@contextmanager
def running(gateway: Gateway, upstream: str) -> Iterator[str]:
    """Run the gateway on a free port of loopback; yields its address, without ``/v1``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(_app(gateway, upstream), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _app(gateway: Gateway, upstream: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
        async with httpx.AsyncClient(base_url=upstream, timeout=_SECONDS, trust_env=False) as one:
            yield {"client": one}

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.state.client
        content = await request.body()

        async def send(body: Body) -> Body:
            reply = await client.post(request.url.path, json=body)
            answer: Body = reply.raise_for_status().json()
            return answer

        try:
            if request.url.path.endswith("/chat/completions"):
                answer = await gateway(json.loads(content), send)
                return Response(json.dumps(answer), media_type="application/json")
            reply = await client.request(request.method, request.url.path, content=content)
        except httpx.HTTPStatusError as error:
            reply = error.response
        return Response(reply.content, reply.status_code, media_type="application/json")

    routes = [Route("/{path:path}", forward, methods=["GET", "POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


def other_fields(**values: object) -> Gateway:
    """Send other values than the client's for these fields."""

    async def answer(body: Body, send: Send) -> Body:
        return await send(body | values)

    return answer


def system_prompt(text: str) -> Gateway:
    """Send a system message before the client's messages."""

    async def answer(body: Body, send: Send) -> Body:
        return await send(
            body | {"messages": [{"role": "system", "content": text}, *body["messages"]]}
        )

    return answer


def shorter_answers(share: float, seed: int, *, consistent: bool) -> Gateway:
    """Drop the last token of this share of the answers.

    A consistent gateway also drops its log-probabilities and counts one token less.
    """
    chance = random.Random(seed)

    async def answer(body: Body, send: Send) -> Body:
        reply = await send(body)
        if chance.random() >= share:
            return reply
        choice = reply["choices"][0]
        rows = (choice.get("logprobs") or {}).get("content")
        text: str = choice["message"]["content"]
        last = rows[-1]["token"] if rows else text[text.rstrip().rfind(" ") :]
        choice["message"]["content"] = text.removesuffix(last)
        if consistent:
            del (rows or [])[-1:]
            reply["usage"]["completion_tokens"] -= 1
            reply["usage"]["total_tokens"] -= 1
        return reply

    return answer


_BLOCK = 200


def swapped_answers(seed: int, *, consistent: bool) -> Gateway:
    """Answer two of each 200 requests with the answer to the request before.

    A consistent gateway gives the whole answer of the other request under an id of its own, else
    only the text.
    """
    chance = random.Random(seed)
    swapped: set[int] = set()
    earlier: list[Body] = []
    count = 0

    async def answer(body: Body, send: Send) -> Body:
        nonlocal count
        reply = await send(body)
        if count % _BLOCK == 0:
            swapped.update(count + n for n in chance.sample(range(_BLOCK), 2))
        is_swapped = count in swapped
        count += 1
        other = earlier.pop() if earlier else None
        earlier.append(deepcopy(reply))
        if other is None or not is_swapped:
            return reply
        if consistent:
            return other | {"id": reply["id"]}
        reply["choices"][0]["message"] = other["choices"][0]["message"]
        return reply

    return answer


def cached_answers() -> Gateway:
    """Ask the server once per body, and give the same answer to every later request."""
    answers: dict[str, asyncio.Task[Body]] = {}

    async def answer(body: Body, send: Send) -> Body:
        key = json.dumps(body, sort_keys=True)
        if key not in answers:
            answers[key] = asyncio.ensure_future(send(body))
        return deepcopy(await answers[key])

    return answer


def text_only() -> Gateway:
    """Give no token ids and no log-probabilities."""

    async def answer(body: Body, send: Send) -> Body:
        reply = await send(body)
        for choice in reply["choices"]:
            choice.pop("logprobs", None)
            choice.pop("token_ids", None)
        return reply

    return answer
