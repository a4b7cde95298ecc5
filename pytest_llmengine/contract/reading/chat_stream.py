"""The parts of a streamed chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import fail
from pytest_llmengine.contract.quote import quote
from pytest_llmengine.contract.reading.fields import objects, pick

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

Chunks = list[dict[str, Any]]


def stream_chat(target: Target, prompt: str = "Say hello.", **params: Any) -> Chunks:
    """The chunks of a streamed answer; a clear refusal ends the check as refused."""
    return chunks_of(target.chat(prompt, stream=True, **params))


def chunks_of(reply: Reply) -> Chunks:
    """The chunks of a stream; one that holds an error fails the check."""
    chunks = reply.objects_or_refused()
    for chunk in chunks:
        if chunk.get("error"):
            fail(f"an error in mid-stream: {quote(chunk['error'])}")
        pick(chunk, list, "choices")
    return chunks


def choices(chunks: Chunks, index: int = 0) -> Chunks:
    """Every entry of ``choices`` with that index, in the order they came."""
    found = [c for chunk in chunks for c in objects(chunk, "choices") if c.get("index") == index]
    if not found:
        fail(f"no chunk has a choice of index {index}: {quote(chunks[0])}")
    return found


def deltas(chunks: Chunks, index: int = 0) -> Chunks:
    """Every delta of one choice, in order."""
    return [pick(entry, dict, "delta") for entry in choices(chunks, index)]


def text(chunks: Chunks, index: int = 0) -> str:
    """The text of one choice, joined."""
    parts = [d["content"] for d in deltas(chunks, index) if d.get("content") is not None]
    return "".join(pick(part, str) for part in parts)


def finish_reasons(chunks: Chunks, index: int = 0) -> list[str]:
    """The finish reasons of one choice that are not null."""
    found = [entry.get("finish_reason") for entry in choices(chunks, index)]
    return [pick(reason, str) for reason in found if reason is not None]


def fragments(chunks: Chunks) -> Chunks:
    """The tool call fragments of the first choice, in order."""
    return [
        fragment
        for delta in deltas(chunks)
        if delta.get("tool_calls") is not None
        for fragment in objects(delta, "tool_calls")
    ]


def arguments_by_index(chunks: Chunks) -> dict[int, str]:
    """The arguments of each tool call, its fragments joined."""
    joined: dict[int, str] = {}
    for fragment in fragments(chunks):
        index = pick(fragment, int, "index")
        part = pick(fragment, dict, "function").get("arguments") or ""
        joined[index] = joined.get(index, "") + pick(part, str)
    return joined
