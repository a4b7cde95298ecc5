"""Mutants of messages, and of the effects that messages.stream has too."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import (
    answering,
    body,
    chunks,
    crashes_on,
    forgets,
    put,
    taking,
    without,
)
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook

    Edit = Callable[[JSON], object]

_chance = count()


def _contents(edit: Callable[[list[JSON]], list[JSON]]) -> Hook:
    """A request hook that edits each content that is a list of blocks."""

    def edited(request: JSON) -> None:
        for message in request["messages"]:
            if isinstance(message["content"], list):
                message["content"] = edit(message["content"])

    return body(edited)


def _blocks(edit: Edit) -> Hook:
    """A reply hook that edits each block of a message."""
    return body(lambda reply: [edit(block) for block in reply.get("content", [])])


def _of_type(kind: str, edit: Edit) -> Edit:
    return lambda block: edit(block) if block["type"] == kind else None


def _results(change: Callable[[object], object]) -> Hook:
    """A request hook that changes the content of each tool_result."""

    def edited(found: list[JSON]) -> list[JSON]:
        return [b | {"content": change(b["content"])} if "content" in b else b for b in found]

    return _contents(edited)


def _text_of_blocks_only(request: JSON) -> None:
    if isinstance(request.get("system"), list):
        request["system"] = "".join(block["type"] for block in request["system"])


def _last_message_alone(request: JSON) -> None:
    request["messages"] = request["messages"][-1:]


def _last_user_message(request: JSON) -> None:
    turns = request["messages"]
    request["messages"] = [
        turn
        for turn, following in zip(turns, [*turns[1:], {}], strict=True)
        if turn["role"] != following.get("role")
    ]


def _repeats_the_beginning(reply: JSON, call: ReceivedRequest) -> JSON:
    last = call.json["messages"][-1]
    if last["role"] == "assistant":
        reply["content"][0]["text"] = last["content"] + reply["content"][0]["text"]
    return reply


def _counts_by_chance(reply: JSON) -> None:
    reply["usage"]["input_tokens"] += next(_chance)


def _thinks_last(reply: JSON) -> None:
    reply["content"].reverse()


_OLD_VERSION_ONLY = answering(
    400,
    {"type": "error", "error": {"type": "invalid_request_error", "message": "No such version."}},
    when=lambda call: call.headers.get("anthropic-version", "") > "2023-06-01",
)
_KEY_IN_OTHER_HEADER = answering(
    401,
    {"type": "error", "error": {"type": "authentication_error", "message": "No key."}},
    when=lambda call: "authorization" not in call.headers,
)

for check, behaviour in (
    ("required", Behaviour("no stop_sequence", reply=without("stop_sequence"))),
    ("required", Behaviour("no usage", reply=without("usage"))),
    ("required", Behaviour("another type", reply=put("completion", "type"))),
    ("id_unique", Behaviour("one id", reply=put("msg_1", "id"))),
    ("model", Behaviour("another name", reply=put("/models/a.gguf", "model"))),
    ("stop_reason", Behaviour("OpenAI's reason", reply=put("stop", "stop_reason"))),
    ("stop_reason", Behaviour("a stop_sequence", reply=put("", "stop_sequence"))),
    (
        "content.blocks",
        Behaviour("a block as JSON", request=_contents(lambda f: [*f, *f[:1]])),
    ),
    ("content.parts", Behaviour("the first block", request=_contents(lambda f: f[:1]))),
    ("system.blocks", Behaviour("no text of blocks", request=body(_text_of_blocks_only))),
    ("multi_turn", Behaviour("the last message", request=body(_last_message_alone))),
    ("consecutive_roles", Behaviour("the last of a role", request=body(_last_user_message))),
    (
        "tool_result.content",
        Behaviour("results dropped", request=_results(lambda _: "")),
    ),
    (
        "tool_result.blocks",
        Behaviour(
            "blocks of results dropped",
            request=_results(lambda content: content if isinstance(content, str) else ""),
        ),
    ),
    ("prefill", Behaviour("the beginning is repeated", reply=_repeats_the_beginning)),
    ("content.image", Behaviour("a crash", wire=crashes_on(b'"image"'))),
    (
        "content.image",
        Behaviour(
            "images dropped",
            request=_contents(lambda f: [b for b in f if b["type"] != "image"]),
        ),
    ),
    ("usage", Behaviour("no output", reply=put(0, "usage", "output_tokens"))),
    ("usage", Behaviour("constant", reply=put(7, "usage", "input_tokens"))),
    ("usage.repeated", Behaviour("by chance", reply=body(_counts_by_chance))),
    ("count_tokens", Behaviour("no system prompt", reply=put(7, "input_tokens"))),
    ("count_tokens.tools", Behaviour("no tools", request=forgets("tools"))),
    ("tool_choice.none", Behaviour("none ignored", request=forgets("tool_choice"))),
    (
        "tool_choice.disable_parallel",
        Behaviour("always parallel", request=without("tool_choice", "disable_parallel_tool_use")),
    ),
    ("thinking", Behaviour("no signature", reply=_blocks(lambda b: b.pop("signature", None)))),
    ("thinking", Behaviour("thinking last", reply=body(_thinks_last))),
    (
        "thinking",
        Behaviour(
            "always on", request=taking({"type": "adaptive"}, {"type": "disabled"}, "thinking")
        ),
    ),
    ("version.newest", Behaviour("an old version only", wire=_OLD_VERSION_ONLY)),
    ("auth.x_api_key", Behaviour("bearer tokens only", wire=_KEY_IN_OTHER_HEADER)),
):
    mutant(f"messages.{check}", behaviour)


# ---- effects, whole and streamed


def _at_the_end(edit: Edit) -> tuple[Hook, Edit]:
    """An edit of the fields with which a message ends, for a whole message and for an event."""
    return body(
        lambda r: edit(r) if "stop_reason" in r else None
    ), lambda event: edit(event["delta"]) if event["type"] == "message_delta" else None


def _ended(name: str, edit: Edit) -> Behaviour:
    whole, streamed = _at_the_end(edit)
    return Behaviour(name, reply=whole, events=chunks(streamed))


def _texts(name: str, change: Callable[[str, JSON], str]) -> Behaviour:
    """A mutant that changes the text of a message, whole and streamed."""

    def reply(found: JSON, call: ReceivedRequest) -> JSON:
        for block in found.get("content", []):
            _of_type("text", lambda b: b.update(text=change(b["text"], call.json)))(block)
        return found

    def events(found: list[JSON], call: ReceivedRequest) -> list[JSON]:
        deltas = [e["delta"] for e in found if e.get("delta", {}).get("type") == "text_delta"]
        whole = "".join(delta["text"] for delta in deltas)
        for delta in deltas:
            delta["text"] = change(whole, call.json) if delta is deltas[0] else ""
        return found

    return Behaviour(name, reply=reply, events=events)


def _stop_kept(text: str, request: JSON) -> str:
    return text + request["stop_sequences"][-1] if "stop_sequences" in request else text


def _stopped_early(text: str, request: JSON) -> str:
    return text[:-4] if "stop_sequences" in request else text


def _chance_at_zero(text: str, request: JSON) -> str:
    return f"{text} {next(_chance)}" if request.get("temperature") == 0 else text


def _end_turn(ended: JSON) -> None:
    ended["stop_reason"] = "end_turn"


def _calls(name: str, edit: Edit) -> Behaviour:
    """A mutant that changes the blocks of tool calls, or the start of those of a stream."""
    started = _of_type(
        "content_block_start", lambda e: _of_type("tool_use", edit)(e["content_block"])
    )
    return Behaviour(name, reply=_blocks(_of_type("tool_use", edit)), events=chunks(started))


for check, behaviour in (
    ("max_tokens", Behaviour("cap ignored", request=taking(64, 5, "max_tokens"))),
    ("max_tokens.stop_reason", _ended("end_turn", _end_turn)),
    ("stop_sequences", Behaviour("dropped", request=forgets("stop_sequences"))),
    ("stop_sequences", _texts("kept in the text", _stop_kept)),
    ("stop_sequences", _texts("stopped too early", _stopped_early)),
    ("stop_sequence", _ended("end_turn", _end_turn)),
    ("stop_sequence", _ended("not named", lambda ended: ended.update(stop_sequence=None))),
    ("system", Behaviour("dropped", request=forgets("system"))),
    ("temperature", _texts("by chance", _chance_at_zero)),
    ("top_k", Behaviour("dropped", request=forgets("top_k"))),
    ("top_p", Behaviour("dropped", request=forgets("top_p"))),
    ("tool_choice.any", Behaviour("dropped", request=forgets("tool_choice"))),
    ("tool_choice.tool", Behaviour("dropped", request=forgets("tool_choice"))),
    ("tool_use", _calls("no id", lambda block: block.pop("id"))),
    ("tool_use", _calls("another name", lambda block: block.update(name="functions.get_weather"))),
    ("tool_use", _ended("end_turn", _end_turn)),
    ("output_config", Behaviour("dropped", request=forgets("output_config"))),
):
    mutant(f"messages.{check}", behaviour)
    mutant(f"messages.stream.{check}", behaviour)
mutant(
    "messages.tool_use",
    Behaviour("input as text", reply=_blocks(_of_type("tool_use", lambda b: b.update(input="{}")))),
)
mutant("messages.tool_choice.none", _texts("a call as text", lambda *_: "<tool_call>{}"))
