"""POST /v1/chat/completions, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Api


def test_stream_says_what_the_whole_answer_says(reference: Api) -> None:
    """The deltas join to the text of the whole answer, in several pieces."""
    pieces = [c["choices"][0]["delta"].get("content") or "" for c in reference.chunks()]

    assert "".join(pieces) == reference.text()
    assert sum(bool(p) for p in pieces) > 20


def test_chunks_share_head_and_order(reference: Api) -> None:
    """All chunks have one id and one time; the role is first and the finish reason is last."""
    chunks = reference.chunks()
    deltas = [c["choices"][0]["delta"] for c in chunks]
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]

    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    assert [i for i, d in enumerate(deltas) if "role" in d] == [0]
    assert deltas[-1] == {}
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]


def test_usage_comes_last_and_only_on_request(reference: Api) -> None:
    """With include_usage the last chunk has the usage and the others null; else none has it."""
    asked = reference.chunks(stream_options={"include_usage": True})

    assert all("usage" not in c for c in reference.chunks())
    assert all(c["usage"] is None for c in asked[:-1])
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"] == reference.chat().json()["usage"]


def test_choices_are_interleaved_by_index(reference: Api) -> None:
    """Two choices are streamed in turns, and each joins to its whole answer."""
    order: list[int] = []
    texts = {0: "", 1: ""}
    for chunk in reference.chunks(n=2):
        (choice,) = chunk["choices"]
        order.append(choice["index"])
        texts[choice["index"]] += choice["delta"].get("content") or ""
    whole = {c["index"]: c["message"]["content"] for c in reference.chat(n=2).json()["choices"]}

    assert texts == whole
    assert order[:4] == [0, 1, 0, 1]


def test_logprobs_come_with_their_tokens(reference: Api) -> None:
    """Each content delta has the entry of its token, as in the whole answer."""
    entries = []
    for chunk in reference.chunks(logprobs=True, top_logprobs=2, max_tokens=6):
        choice = chunk["choices"][0]
        found = (choice["logprobs"] or {}).get("content", [])
        assert "".join(e["token"] for e in found) == (choice["delta"].get("content") or "")
        entries += found

    whole = reference.said(logprobs=True, top_logprobs=2, max_tokens=6)
    assert entries == whole["logprobs"]["content"]


def test_reasoning_comes_before_the_answer(reference: Api) -> None:
    """Reasoning is streamed in its own field, and the text after it."""
    deltas = [c["choices"][0]["delta"] for c in reference.chunks(reasoning_effort="low")]
    kinds = ["reasoning" if "reasoning" in d else "content" for d in deltas[1:-1]]

    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning", "content"}


def test_emoji_survive_every_chunk(reference: Api) -> None:
    """No chunk holds half a character."""
    chunks = reference.chunks("Repeat exactly: Grüße, 日本 👩‍👩‍👧 🎉!")
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

    assert text == "Grüße, 日本 👩‍👩‍👧 🎉!"


def test_refusals_come_before_the_stream(reference: Api) -> None:
    """A wrong request is refused with a status, not in a stream."""
    response = reference.chat([], stream=True)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
