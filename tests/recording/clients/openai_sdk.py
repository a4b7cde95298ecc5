"""Makes calls with the official openai SDK, 2.x or 3.x, and prints the results as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

import openai

ASK = {"model": "mock", "messages": [{"role": "user", "content": "Say hello 😀"}], "seed": 1}


def whole(base_url: str) -> str:
    """A whole answer."""
    with openai.OpenAI(base_url=base_url, api_key="sk-local") as client:
        return client.chat.completions.create(**ASK).choices[0].message.content


def stream(base_url: str) -> list[str]:
    """The texts of a stream, chunk by chunk."""
    with openai.OpenAI(base_url=base_url, api_key="sk-local") as client:
        chunks = client.chat.completions.create(**ASK, stream=True)
        return [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]


def error(base_url: str) -> str:
    """The name that the SDK has for the refusal of a server."""
    with openai.OpenAI(base_url=base_url, api_key="sk-local") as client:
        try:
            client.chat.completions.create(model="mock", messages=[])
        except openai.APIStatusError as caught:
            return f"{type(caught).__name__} {caught.status_code} {caught.code}"
    return "none"


def at_once(base_url: str) -> list[object]:
    """Both calls by the asynchronous client."""

    async def run() -> list[object]:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-local") as client:
            return [await _whole(client), await _stream(client)]

    return asyncio.run(run())


async def _whole(client: openai.AsyncOpenAI) -> str:
    return (await client.chat.completions.create(**ASK)).choices[0].message.content


async def _stream(client: openai.AsyncOpenAI) -> list[str]:
    chunks = await client.chat.completions.create(**ASK, stream=True)
    return [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]


if __name__ == "__main__":
    url, *steps = sys.argv[1:]
    said = {step: globals()[step](url) for step in steps}
    sys.stdout.write(json.dumps({"version": openai.__version__, **said}))
