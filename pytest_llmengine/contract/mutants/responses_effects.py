"""Mutants of resp.effect: a parameter or an input item is dropped."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, chunks, dropping, dropping_each
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook

_FIELDS = {
    "instructions": "instructions",
    "max_output_tokens": "max_output_tokens",
    "json_schema": "text",
    "json_object": "text.format",
    "include": "include",
    "top_logprobs": "top_logprobs",
    "summary": "reasoning.summary",
    "encrypted": "include",
    "truncation": "truncation",
}
for _name, _field in _FIELDS.items():
    dropping_each(f"resp.effect.{_name}", _field)
mutant(
    "resp.stream.obfuscation",
    Behaviour("stream_options dropped", request=dropping("stream_options", stream=True)),
)


def _without_items(kind: str, value: str) -> Hook:
    """A server that does not read the items whose `kind` (role or type) has this value."""

    def drop(request: JSON) -> None:
        if isinstance(request.get("input"), list):
            request["input"] = [i for i in request["input"] if i.get(kind) != value]

    return body(drop)


for _role in ("system", "developer", "assistant"):
    mutant(f"resp.input.{_role}", Behaviour("not read", request=_without_items("role", _role)))
mutant(
    "resp.input.output_message", Behaviour("not read", request=_without_items("role", "assistant"))
)
for _type in ("function_call", "function_call_output"):
    mutant(f"resp.input.{_type}", Behaviour("not read", request=_without_items("type", _type)))
mutant(
    "resp.invalid.item_reference",
    Behaviour("not read", request=_without_items("type", "item_reference")),
)


def _without_parts(kind: str) -> Hook:
    """A server that does not read the parts of messages that have this type."""

    def drop(request: JSON) -> None:
        for item in request["input"]:
            if isinstance(item, dict) and isinstance(item.get("content"), list):
                item["content"] = [p for p in item["content"] if p["type"] != kind]

    return body(drop)


for _part in ("input_text", "refusal"):
    mutant(f"resp.input.{_part}", Behaviour("not read", request=_without_parts(_part)))


def _always_reasons(request: JSON) -> None:
    if request.get("reasoning", {}).get("effort") == "none":
        request["reasoning"]["effort"] = "medium"


mutant("resp.effect.reasoning", Behaviour("always reasons", request=body(_always_reasons)))


def _cut_unasked(request: JSON) -> None:
    request["truncation"] = "auto"


mutant("resp.effect.truncation", Behaviour("cut unasked", request=body(_cut_unasked)))


def _edit_response(edit: Callable[[JSON], None], event: JSON) -> None:
    """Edit the response in an event, if it has one."""
    edit(event.get("response", {}))


def _readable(response: JSON, *, encoded: bool) -> None:
    for item in response.get("output", ()):
        if item.get("encrypted_content"):
            text = item["content"][0]["text"].encode()
            item["encrypted_content"] = (b64encode(text) if encoded else text).decode()


for _encoded in (False, True):
    _name = "in Base64" if _encoded else "in plain text"
    _edit = partial(_readable, encoded=_encoded)
    mutant("resp.reasoning.opaque", Behaviour(_name, reply=body(_edit)))
    _edit_event = partial(_edit_response, _edit)
    mutant("resp.reasoning.opaque", Behaviour(f"{_name}, in streams", events=chunks(_edit_event)))


def _in_ascii(response: JSON) -> None:
    for item in response.get("output", ()):
        for part in item.get("content") or ():
            part["text"] = part["text"].encode("ascii", "ignore").decode()


_ascii_event = partial(_edit_response, _in_ascii)
dropping_each("resp.text.exact", "text")
mutant("resp.text.exact", Behaviour("ASCII", reply=body(_in_ascii)))
mutant("resp.text.exact", Behaviour("ASCII in streams", events=chunks(_ascii_event)))
