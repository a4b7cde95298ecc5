"""Mutants of chat.stream.usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, chunks, events, forgets
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
IGNORED = Behaviour("include_usage ignored", request=forgets("stream_options"))


def _asks_for_usage(request: JSON) -> None:
    if request.get("stream"):
        request["stream_options"] = {"include_usage": True}


def _beside_the_choices(found: list[JSON]) -> list[JSON]:
    *others, last = found
    if last.get("usage"):
        others[-1]["usage"] = last["usage"]
        return others
    return found


def _wrong_total(chunk: JSON) -> None:
    if chunk.get("usage"):
        chunk["usage"]["total_tokens"] += 1


def _no_tokens(chunk: JSON) -> None:
    if chunk.get("usage"):
        chunk["usage"] = dict.fromkeys(COUNTS, 0)


def _without_null(chunk: JSON) -> None:
    if chunk.get("usage") is None:
        chunk.pop("usage", None)


def _counts_in_every_chunk(chunk: JSON) -> None:
    chunk["usage"] = chunk.get("usage") or COUNTS


def _another_count(chunk: JSON) -> None:
    if chunk.get("usage"):
        chunk["usage"]["prompt_tokens"] += 1


mutant(
    "chat.stream.usage.absent_by_default",
    Behaviour("usage unasked", request=body(_asks_for_usage)),
)
mutant("chat.stream.usage.final_chunk", IGNORED)
mutant(
    "chat.stream.usage.final_chunk",
    Behaviour("usage beside the choices", events=events(_beside_the_choices)),
)
mutant("chat.stream.usage.final_chunk", Behaviour("wrong total", events=chunks(_wrong_total)))
mutant("chat.stream.usage.final_chunk", Behaviour("all zero", events=chunks(_no_tokens)))
mutant("chat.stream.usage.null_elsewhere", Behaviour("no null", events=chunks(_without_null)))
mutant(
    "chat.stream.usage.null_elsewhere",
    Behaviour("usage in every chunk", events=chunks(_counts_in_every_chunk)),
)
mutant("chat.stream.usage.null_elsewhere", IGNORED)
mutant(
    "chat.stream.usage.equals_nonstream",
    Behaviour("counts another way", events=chunks(_another_count)),
)
