"""Ways in which a server may be broken, written without regard to any rule.

They are of the kinds that real gateways and servers have shown: a field that is dropped only in
streams, a text that is lost or doubled on its way, an answer that goes to another caller.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from llmengine.mock.behaviour import Behaviour, RawReply, ReceivedRequest

JSON = dict[str, Any]
Edit = Callable[[Any], Any]

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
)
WHOLE, STREAM = False, True

breakages: list[Behaviour] = []


def _add(name: str, **hooks: Any) -> None:
    breakages.append(Behaviour(name, **hooks))


def _is(call: ReceivedRequest, path: str, stream: bool | None = None) -> bool:
    """Whether a call is to the path, and streamed or whole as given."""
    body = call.json if isinstance(call.json, dict) else {}
    return call.path == path and stream in {None, bool(body.get("stream"))}


# ---- fields that are dropped, in streams alone or in whole answers alone

_DROPPED = {
    CHAT: "stop max_tokens max_completion_tokens logit_bias response_format tool_choice tools "
    "temperature seed n logprobs top_logprobs frequency_penalty presence_penalty top_p "
    "parallel_tool_calls",
    COMPLETIONS: "stop max_tokens echo suffix logprobs n best_of logit_bias temperature",
    RESPONSES: "instructions text max_output_tokens tools tool_choice previous_response_id store "
    "include metadata",
}


def _dropping(path: str, stream: bool, field: str) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if _is(call, path, stream):
            body.pop(field, None)
        return body

    return hook


for _path, _fields in _DROPPED.items():
    for _field in _fields.split():
        _add(f"{_path} drops {_field} in streams", request=_dropping(_path, STREAM, _field))
for _field in ("dimensions", "encoding_format"):
    _add(f"embeddings drop {_field}", request=_dropping(EMBEDDINGS, WHOLE, _field))
_add("chat drops json_object in whole answers", request=_dropping(CHAT, WHOLE, "response_format"))


# ---- prompts that are changed on their way to the model


def _words(edit: Edit) -> Edit:
    """Edit the text of every message, also if it is in parts."""

    def messages(found: list[JSON]) -> list[JSON]:
        for message in found:
            if isinstance(message.get("content"), str):
                message["content"] = edit(message["content"])
            elif isinstance(message.get("content"), list):
                for part in message["content"]:
                    if isinstance(part, dict) and isinstance(part.get("text"), str):
                        part["text"] = edit(part["text"])
        return found

    return messages


def _merged(found: list[JSON]) -> list[JSON]:
    """Join neighbours of one role."""
    joined: list[JSON] = []
    for message in found:
        texts = isinstance(message.get("content"), str)
        if joined and texts and joined[-1].get("role") == message.get("role"):
            joined[-1]["content"] = f"{joined[-1]['content']} {message['content']}"
        else:
            joined.append(message)
    return joined


def _other_role(old: str, new: str) -> Edit:
    return lambda found: [m | {"role": new} if m.get("role") == old else m for m in found]


def _without_role(role: str) -> Edit:
    return lambda found: [m for m in found if m.get("role") != role] or found


_PROMPTS: dict[str, Edit] = {
    "cut to 40 characters": _words(lambda text: text[:40]),
    "cut to 20,000 characters": _words(lambda text: text[:20_000]),
    "in lower case": _words(str.lower),
    "with spaces normalised": _words(lambda text: " ".join(text.split())),
    "without characters beyond ASCII": _words(lambda text: text.encode("ascii", "ignore").decode()),
    "reduced to the last message": lambda found: found[-1:],
    "reduced to the first message": lambda found: found[:1],
    "with system messages lost": _without_role("system"),
    "with developer messages lost": _without_role("developer"),
    "with assistant messages lost": _without_role("assistant"),
    "with tool messages lost": _without_role("tool"),
    "with neighbours of a role merged": _merged,
    "with the messages in reverse": lambda found: found[::-1],
    "with each message doubled": _words(lambda text: text + text),
}


def _prompting(edit: Edit, stream: bool | None) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        found = body.get("messages")
        good = isinstance(found, list) and all(isinstance(m, dict) for m in found)
        if _is(call, CHAT, stream) and good and found:
            body["messages"] = edit(found)
        return body

    return hook


for _name, _edit in _PROMPTS.items():
    _add(f"chat: the prompt {_name}", request=_prompting(_edit, None))
for _name in ("with system messages lost", "reduced to the last message", "in lower case"):
    _add(f"chat streams: the prompt {_name}", request=_prompting(_PROMPTS[_name], STREAM))


def _templated(body: JSON, call: ReceivedRequest) -> JSON:
    if _is(call, COMPLETIONS) and isinstance(body.get("prompt"), str):
        body["prompt"] = f"<|im_start|>user\n{body['prompt']}<|im_end|>\n<|im_start|>assistant\n"
    return body


_add("completions go through a chat template", request=_templated)


# ---- texts that are changed on their way to the client


def _without_middle(text: str) -> str:
    words = text.split(" ")
    return " ".join(words[: len(words) // 2] + words[len(words) // 2 + 1 :])


_TEXTS: dict[str, Edit] = {
    "with a word lost": _without_middle,
    "doubled": lambda text: text + text,
    "in lower case": str.lower,
    "with spaces doubled": lambda text: text.replace(" ", "  "),
    "cut before its end": lambda text: text[:-3],
    "with U+FFFD in it": lambda text: text.replace("e", "\ufffd", 1),
    "with a role before it": lambda text: f"Assistant: {text}",
    "with markup at its end": lambda text: f"{text}<|im_end|>",
    "with a space before it": lambda text: f" {text}",
    "empty": lambda text: "",
}


def _chat_text(body: JSON, edit: Edit) -> None:
    for choice in body.get("choices", []):
        if isinstance(choice.get("message", {}).get("content"), str):
            choice["message"]["content"] = edit(choice["message"]["content"])
        elif isinstance(choice.get("text"), str):
            choice["text"] = edit(choice["text"])


def _response_text(body: JSON, edit: Edit) -> None:
    for item in body.get("output", []):
        for part in item.get("content") or []:
            if isinstance(part.get("text"), str):
                part["text"] = edit(part["text"])


def _replying(path: str, edit: Edit) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if _is(call, path):
            (_response_text if path == RESPONSES else _chat_text)(body, edit)
        return body

    return hook


for _path in (CHAT, COMPLETIONS, RESPONSES):
    for _name, _edit in _TEXTS.items():
        _add(f"{_path}: the text {_name}", reply=_replying(_path, _edit))


def _texts_of(events: list[JSON], path: str) -> list[int]:
    """The places of the events that carry text."""

    def has_text(event: JSON) -> bool:
        if path == RESPONSES:
            return event.get("type") == "response.output_text.delta"
        choices = event.get("choices") or [{}]
        return bool(choices[0].get("delta", {}).get("content") or choices[0].get("text"))

    return [place for place, event in enumerate(events) if has_text(event)]


def _streaming(
    path: str, edit: Callable[[list[JSON], list[int]], list[JSON]]
) -> Callable[[list[JSON], ReceivedRequest], list[JSON]]:
    def hook(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
        places = _texts_of(events, path)
        return edit(events, places) if _is(call, path) and len(places) > 2 else events

    return hook


def _swapped(events: list[JSON], places: list[int]) -> list[JSON]:
    first, second = places[1], places[2]
    events[first], events[second] = events[second], events[first]
    return events


_STREAMS: dict[str, Callable[[list[JSON], list[int]], list[JSON]]] = {
    "lose an event in the middle": lambda events, at: events[: at[1]] + events[at[1] + 1 :],
    "send an event twice": lambda events, at: [*events[: at[1] + 1], *deepcopy(events[at[1] :])],
    "lose the last text": lambda events, at: events[: at[-1]] + events[at[-1] + 1 :],
    "swap two events": _swapped,
    "lose the first text": lambda events, at: events[: at[0]] + events[at[0] + 1 :],
}
for _path in (CHAT, COMPLETIONS, RESPONSES):
    for _name, _change in _STREAMS.items():
        _add(f"{_path}: streams {_name}", events=_streaming(_path, _change))


# ---- answers of other callers


def _previous(path: str, *, after: int = 0) -> Callable[[Any, ReceivedRequest], Any]:
    """Give each caller the answer to the one before."""
    served: list[Any] = []

    def hook(body: Any, call: ReceivedRequest) -> Any:
        if not _is(call, path):
            return body
        served.append(deepcopy(body))
        return served[-2] if len(served) > 1 + after else body

    return hook


def _previous_part(*path: str | int) -> Callable[[JSON, ReceivedRequest], JSON]:
    """Give each caller one part of the answer to the one before."""
    kept: list[Any] = []

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        parent: Any = body
        try:
            for step in path[:-1]:
                parent = parent[step]
            own = deepcopy(parent[path[-1]])
        except (KeyError, IndexError, TypeError):
            return body
        if kept and own is not None:
            parent[path[-1]] = kept[-1]
        if own is not None:
            kept.append(own)
        return body

    return hook


_add("chat: the previous caller's answer", reply=_previous(CHAT))
_add("chat: the previous caller's answer, after twenty", reply=_previous(CHAT, after=20))
_add("chat: the previous caller's stream", events=_previous(CHAT))
_add("completions: the previous caller's answer", reply=_previous(COMPLETIONS))
_add("responses: the previous caller's answer", reply=_previous(RESPONSES))
_add("embeddings: the previous caller's vectors", reply=_previous(EMBEDDINGS))
_add("chat: the previous caller's text", reply=_previous_part("choices", 0, "message", "content"))
_add(
    "chat: the previous caller's log-probabilities", reply=_previous_part("choices", 0, "logprobs")
)
_add("chat: the previous caller's usage", reply=_previous_part("usage"))
_add(
    "chat: the previous caller's tool calls",
    reply=_previous_part("choices", 0, "message", "tool_calls"),
)


# ---- tools and schemas


def _calling(edit: Callable[[list[JSON]], object]) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        for choice in body.get("choices", []):
            found = choice.get("message", {}).get("tool_calls")
            if found and "function" in found[0]:  # a custom tool has none
                edit(found)
        return body

    return hook


def _swap_arguments(calls: list[JSON]) -> None:
    if len(calls) > 1:
        first, second = calls[0]["function"], calls[1]["function"]
        first["arguments"], second["arguments"] = second["arguments"], first["arguments"]


def _edit_arguments(edit: Edit) -> Callable[[list[JSON]], object]:
    return lambda calls: [
        c["function"].update(arguments=edit(c["function"]["arguments"])) for c in calls
    ]


def _each(edit: Callable[[JSON], object]) -> Callable[[list[JSON]], object]:
    return lambda calls: [edit(call) for call in calls]


_CALLS: dict[str, Callable[[list[JSON]], object]] = {
    "share one id": _each(lambda call: call.update(id="call_1")),
    "have no id": _each(lambda call: call.pop("id", None)),
    "have swapped arguments": _swap_arguments,
    "have arguments as an object": _edit_arguments(json.loads),
    "have arguments that are encoded twice": _edit_arguments(json.dumps),
    "have arguments without an end": _edit_arguments(lambda text: text[:-1]),
    "have empty arguments": _edit_arguments(lambda text: "{}"),
    "have names in upper case": _each(
        lambda call: call["function"].update(name=call["function"]["name"].upper())
    ),
    "have no type": _each(lambda call: call.pop("type", None)),
    "come doubled": lambda calls: calls.extend(deepcopy(calls)),
    "have an argument too many": _edit_arguments(
        lambda text: json.dumps(json.loads(text) | {"invented": 1})
    ),
    "lose accents": _edit_arguments(lambda text: re.sub(r"\\u[0-9a-f]{4}|[^\x00-\x7f]", "?", text)),
    "have values as text": _edit_arguments(
        lambda text: json.dumps({k: json.dumps(v) for k, v in json.loads(text).items()})
    ),
}
for _name, _change_calls in _CALLS.items():
    _add(f"chat: tool calls {_name}", reply=_calling(_change_calls))


def _without_strict(body: JSON, call: ReceivedRequest) -> JSON:
    for tool in body.get("tools") or []:
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
            tool["function"].pop("strict", None)
    return body


def _without_keyword(*keywords: str) -> Callable[[JSON, ReceivedRequest], JSON]:
    """Forget keywords of the schema of response_format."""

    def strip(schema: Any) -> Any:
        if isinstance(schema, dict):
            return {k: strip(v) for k, v in schema.items() if k not in keywords}
        return [strip(v) for v in schema] if isinstance(schema, list) else schema

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        wanted = body.get("response_format")
        if isinstance(wanted, dict) and isinstance(wanted.get("json_schema"), dict):
            wanted["json_schema"]["schema"] = strip(wanted["json_schema"].get("schema"))
        return body

    return hook


_add("chat: strict tools are not strict", request=_without_strict)
for _keywords in (
    "enum",
    "required",
    "minimum maximum",
    "pattern",
    "minItems maxItems",
    "minLength",
):
    _add(f"schemas: {_keywords} ignored", request=_without_keyword(*_keywords.split()))
_add(
    "schemas: fenced in whole answers",
    reply=_replying(CHAT, lambda t: f"```\n{t}\n```" if t[:1] == "{" else t),
)


# ---- log-probabilities


def _scoring(edit: Callable[[list[JSON]], object]) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        for choice in body.get("choices", []):
            found = choice.get("logprobs")
            if isinstance(found, dict) and found.get("content"):
                edit(found["content"])
        return body

    return hook


def _shift(entries: list[JSON]) -> None:
    values = [entry["logprob"] for entry in entries]
    for entry, value in zip(entries, values[-1:] + values[:-1], strict=True):
        entry["logprob"] = value


_SCORES: dict[str, Callable[[list[JSON]], object]] = {
    "are positive": _each(lambda e: e.update(logprob=abs(e["logprob"]) + 0.1)),
    "are all 0": _each(lambda e: e.update(logprob=0.0)),
    "are probabilities": _each(lambda e: e.update(logprob=2.718 ** e["logprob"])),
    "are shifted by a token": _shift,
    "have tokens without spaces": _each(lambda e: e.update(token=e["token"].strip())),
    "have wrong bytes": _each(lambda e: e.update(bytes=[0])),
    "lose the last token": lambda entries: entries.pop(),
    "have alternatives in the wrong order": _each(
        lambda e: e.update(top_logprobs=e["top_logprobs"][::-1])
    ),
    "have one alternative too few": _each(lambda e: e.update(top_logprobs=e["top_logprobs"][:-1])),
}
for _name, _change_calls in _SCORES.items():
    _add(f"chat: log-probabilities {_name}", reply=_scoring(_change_calls))


# ---- usage


def _counting(
    path: str, edit: Callable[[JSON], object], *, stream: bool = False
) -> dict[str, Callable[[Any, ReceivedRequest], Any]]:
    def reply(body: JSON, call: ReceivedRequest) -> JSON:
        if _is(call, path) and isinstance(body.get("usage"), dict):
            edit(body["usage"])
        return body

    def events(found: list[JSON], call: ReceivedRequest) -> list[JSON]:
        for event in found:
            reply(event, call)
            if isinstance(event.get("response"), dict):
                reply(event["response"], call)
        return found

    return {"events": events} if stream else {"reply": reply}


def _plus(*names: str) -> Callable[[JSON], object]:
    return lambda usage: usage.update({name: usage[name] + 1 for name in names if name in usage})


for _path in (CHAT, COMPLETIONS):
    _add(f"{_path}: total_tokens off by one", **_counting(_path, _plus("total_tokens")))
    _add(
        f"{_path}: a token too many is counted",
        **_counting(_path, _plus("completion_tokens", "total_tokens")),
    )
    _add(
        f"{_path}: streams count a token too many",
        **_counting(_path, _plus("completion_tokens", "total_tokens"), stream=True),
    )
    _add(
        f"{_path}: streams count a prompt token too many",
        **_counting(_path, _plus("prompt_tokens", "total_tokens"), stream=True),
    )
    _add(
        f"{_path}: streams have a wrong total",
        **_counting(_path, _plus("total_tokens"), stream=True),
    )
_add("embeddings: total_tokens off by one", **_counting(EMBEDDINGS, _plus("total_tokens")))
_add(
    "embeddings: no token is counted", **_counting(EMBEDDINGS, lambda u: u.update(prompt_tokens=0))
)
_add("responses: total_tokens off by one", **_counting(RESPONSES, _plus("total_tokens")))
_add(
    "responses: streams have a wrong total",
    **_counting(RESPONSES, _plus("total_tokens"), stream=True),
)


# ---- other


def _setting(**values: Any) -> dict[str, Callable[[Any, ReceivedRequest], Any]]:
    def reply(body: JSON, call: ReceivedRequest) -> JSON:
        if _is(call, CHAT):
            body.update({k: v for k, v in values.items() if k in body})
        return body

    return {
        "reply": reply,
        "events": lambda found, call: [reply(event, call) for event in found],
    }


def _chunks_without(*names: str) -> Callable[[list[JSON], ReceivedRequest], list[JSON]]:
    def hook(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
        for event in events if _is(call, CHAT) else ():
            for name in names:
                event.pop(name, None)
                for choice in event.get("choices", []):
                    if name == "finish_reason" and choice.get(name) is None:
                        choice.pop(name, None)
        return events

    return hook


def _saying(words: str) -> Callable[[JSON, ReceivedRequest], JSON]:
    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if isinstance(body.get("error"), dict):
            body["error"]["message"] = words
        return body

    return hook


def _forgetting_after(
    broken: Callable[[ReceivedRequest], object],
) -> Callable[[JSON, ReceivedRequest], JSON]:
    """Lose the conversation of the next request after one that was huge or wrong."""
    bad: list[bool] = []

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if bad and _is(call, CHAT) and isinstance(body.get("messages"), list):
            bad.clear()
            body["messages"] = [{"role": "user", "content": "Hello"}]
        if broken(call):
            bad.append(True)
        return body

    return hook


def _reused_ids(size: int) -> Callable[[JSON, ReceivedRequest], JSON]:
    counts: dict[str, int] = defaultdict(int)

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        if _is(call, CHAT):
            counts["id"] = (counts["id"] * 31 + 7) % size
            body["id"] = f"chatcmpl-{counts['id']}"
        return body

    return hook


def _header(name: str, value: str) -> Callable[[RawReply, ReceivedRequest], RawReply]:
    def hook(reply: RawReply, call: ReceivedRequest) -> RawReply:
        reply.headers[name] = value
        return reply

    return hook


_add("created is 0", **_setting(created=0))
_add("created is in milliseconds", **_setting(created=1_790_000_000_000))
_add("created is years ago", **_setting(created=1_500_000_000))
_add("chunks have no finish_reason key", events=_chunks_without("finish_reason"))
_add("chunks have no model", events=_chunks_without("model"))
_add("chunks have no id", events=_chunks_without("id"))
_add("errors hold a JSON document", error=_saying('{"error": {"message": "inner", "code": 5}}'))
_add(
    "errors hold names of Go structs",
    error=_saying(
        "json: cannot unmarshal string into Go struct field .temperature of type float64"
    ),
)
_add(
    "errors hold a Python traceback",
    error=_saying('Traceback (most recent call last):\n  File "/srv/api.py", line 5, in chat'),
)
_add("ids are drawn from 999", reply=_reused_ids(999))
_add("headers name an internal address", wire=_header("x-upstream", "http://10.0.3.17:8000/v1"))
_add(
    "the next prompt is lost after a huge one",
    request=_forgetting_after(lambda call: len(call.body) > 100_000),
)


def _asked_unstreamed(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if not _is(call, RESPONSES, WHOLE) or reply.status != 200:
        return reply
    event = b'event: response.completed\ndata: {"type":"response.completed","response":'
    return RawReply(
        200, {"content-type": "text/event-stream"}, [event + b"".join(reply.chunks) + b"}\n\n"]
    )


_add("responses stream unasked", wire=_asked_unstreamed)
