"""The output of a response: reasoning, function calls and the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.logprobs import chat_entries
from llmengine.mock.replies import new_id

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.generation import Said, SaidCall


def output_items(said: Said, top: int | None) -> list[JSON]:
    """The output's items in order; the one that the token limit cut is incomplete."""
    found = [_reasoning(said)] if said.reasoning else []
    found += [_call(c) for c in said.calls]
    if said.tokens or said.refusal is not None or not said.calls:
        found.append(_message(said, top))
    if said.finish == "length":
        found[-1]["status"] = "incomplete"
    return found


def _reasoning(said: Said) -> JSON:
    thought = {"type": "reasoning_text", "text": "".join(said.reasoning)}
    return {"id": new_id("rs_"), "type": "reasoning", "summary": [], "content": [thought]}


def _call(call: SaidCall) -> JSON:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": new_id("call_"),
        "name": call.name,
        "arguments": "".join(call.arguments),
    }


def _message(said: Said, top: int | None) -> JSON:
    if said.refusal is not None:
        part: JSON = {"type": "refusal", "refusal": said.refusal}
    else:
        entries = [] if top is None else chat_entries(said.tokens, top)
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": entries}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
