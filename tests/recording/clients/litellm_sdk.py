"""Makes calls with litellm, and prints the results as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version

import litellm

ASK = {
    "model": "openai/mock",
    "messages": [{"role": "user", "content": "Say hello 😀"}],
    "api_key": "sk-local",
}


def whole(base_url: str) -> str:
    """A whole answer."""
    answer = litellm.completion(**ASK, api_base=base_url)
    return answer.choices[0].message.content


def stream(base_url: str) -> list[str]:
    """The texts of a stream, chunk by chunk."""
    chunks = litellm.completion(**ASK, api_base=base_url, stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def error(base_url: str) -> str:
    """The name that litellm has for the refusal of a server."""
    try:
        litellm.completion(**ASK | {"messages": []}, api_base=base_url)
    except litellm.BadRequestError as caught:
        return f"{type(caught).__name__} {caught.status_code}"
    return "none"


def at_once(base_url: str) -> list[object]:
    """Both calls by the asynchronous functions."""

    async def run() -> list[object]:
        answer = await litellm.acompletion(**ASK, api_base=base_url)
        chunks = await litellm.acompletion(**ASK, api_base=base_url, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        return [answer.choices[0].message.content, texts]

    return asyncio.run(run())


if __name__ == "__main__":
    url, *steps = sys.argv[1:]
    said = {step: globals()[step](url) for step in steps}
    sys.stdout.write(json.dumps({"version": version("litellm"), **said}))
