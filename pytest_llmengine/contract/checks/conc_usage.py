"""Checks of conc.usage: what was asked before does not change how many tokens are counted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import pick
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.samples import JSON
    from pytest_llmengine.contract.target import Target

SHORT, LONG = "Hello", "Tell me about the old stone bridge over the river in the valley."


def _chat(text: str) -> JSON:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 1}


_ROUTES: dict[str, tuple[str, Callable[[str], JSON], set[Capability]]] = {
    "chat": ("/chat/completions", _chat, set()),
    "completions": (
        "/completions",
        lambda text: {"prompt": text, "max_tokens": 1},
        {Capability.COMPLETIONS},
    ),
    "responses": (
        "/responses",
        lambda text: {"input": text, "max_output_tokens": 16},
        {Capability.RESPONSES},
    ),
    "embeddings": ("/embeddings", lambda text: {"input": text}, {Capability.EMBEDDINGS}),
}


def _own_usage(path: str, body: Callable[[str], JSON], target: Target) -> None:
    counts = {text: [_count(target, path, body(text))] for text in (SHORT, LONG)}
    for text, seen in counts.items():
        seen.append(_count(target, path, body(text)))
        first, again = seen
        expect(first == again, f"{text!r} has {first} tokens, and after other requests {again}")
    if counts[SHORT] == counts[LONG]:
        raise Unmeasured("the count of tokens does not depend on the input")


def _count(target: Target, path: str, body: JSON) -> int:
    found = target.post(path, {"model": target.model, **body}).success_or_refused()
    made = any(found.get(key) for key in ("choices", "output", "data"))
    expect(made, f"there is no answer: {quote(found)}")
    if not found.get("usage"):
        raise Unmeasured("the answer has no usage")
    name = "input_tokens" if "input_tokens" in found["usage"] else "prompt_tokens"
    return pick(found, int, "usage", name)


for _name, (_path, _body, _needs) in _ROUTES.items():
    check(
        f"conc.usage.{_name}",
        level=REQUIRED,
        tier=EXTENDED,
        source="openai-openapi: CompletionUsage.prompt_tokens",
        needs=_needs,
        group="conc.usage",
        title="The same input has the same number of tokens, whatever was asked in between.",
        breaks="A caller gets the answer to the request of another one, or pays for it.",
        since="2026-11-27",
    )(partial(_own_usage, _path, _body))
