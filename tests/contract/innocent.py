"""Servers that are right, or that deviate in one way only, and the rules that run on them."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from llmengine.mock import Behaviour, MockServer, RawReply, ReceivedRequest, Script
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.jobs import in_order
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import Check, catalogue
from pytest_llmengine.contract.runner import CheckResult, run_check

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]
CHAT, RESPONSES, COMPLETIONS = "/v1/chat/completions", "/v1/responses", "/v1/completions"

# Tables of rules that are made alike: only each so-manieth of them runs.
_SAMPLED = {
    "struct.matrix.": 15,
    "messages.": 4,
    "resp.echo.": 8,
    "resp.invalid.": 8,
    "err.specification.": 20,
}
_LEFT_OUT = ("conc.", "net.", "err.no_", "err.generated", "long.")


def rules(*prefixes: str) -> list[Check]:
    """The rules whose ids start with one of the prefixes, and a sample of the large tables."""
    seen: dict[str, int] = {}
    found = []
    for check in catalogue().values():
        name = check.id
        if check.driver or check.heavy or check.timing or name.startswith(_LEFT_OUT):
            continue
        if prefixes and not name.startswith(prefixes):
            continue
        table = next((t for t in _SAMPLED if name.startswith(t)), "")
        seen[table] = seen.get(table, -1) + 1
        if not table or seen[table] % _SAMPLED[table] == 0:
            found.append(check)
    return found


def results(server: MockServer, checks: list[Check]) -> list[CheckResult]:
    """The results of the rules on a server, in their order."""

    def run(check: Check) -> CheckResult:
        limits = Limits(answer=20, check=60)
        with Target(server.base_url, server.model, limits=limits, sleep=lambda _: None) as target:
            return run_check(check, target, Profile("x"))

    return list(in_order([partial(run, check) for check in checks], 4))


def without(*fields: str) -> Behaviour:
    """A server that accepts these fields and drops them."""
    return Behaviour(
        "drops",
        request=lambda body, call: {k: v for k, v in body.items() if k not in fields},
    )


def _thinks(body: JSON, call: ReceivedRequest) -> JSON:
    if call.path == CHAT:
        body.setdefault("reasoning_effort", "xhigh")
    elif call.path == RESPONSES:
        body.setdefault("reasoning", {"effort": "xhigh"})
    return body


_ROUTES = re.compile(
    r"/v1/(chat/completions|completions|responses|embeddings|messages|models|conversations)(/.*)?"
)


def _plain_errors(reply: RawReply, call: ReceivedRequest) -> RawReply:
    known = _ROUTES.fullmatch(call.path) and reply.status != 405
    if known or reply.status not in {404, 405}:
        return reply
    return RawReply(reply.status, {"content-type": "text/plain"}, [b"404 page not found\n"])


def _unprocessable(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 422 if reply.status == 400 else reply.status
    return reply


def _reversed(value: Any) -> Any:
    """The same JSON with the keys of each object in the reverse order."""
    if isinstance(value, list):
        return [_reversed(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return value


def _other_bytes(reply: RawReply, call: ReceivedRequest) -> RawReply:
    """The same answer with other names of headers, in other chunks, with comments in a stream."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        reply.chunks = [b": keep-alive\n\n" + chunk for chunk in reply.chunks]
    whole = b"".join(reply.chunks)
    reply.chunks = [whole[at : at + 61] for at in range(0, len(whole), 61)]
    reply.headers = {name.upper(): value for name, value in reply.headers.items()}
    return reply


def _flat_errors(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status >= 400:
        error = json.loads(b"".join(reply.chunks))["error"]
        reply.chunks = [json.dumps({"error": error["message"]}).encode()]
    return reply


def _streams_fail(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if not isinstance(call.json, dict) or not call.json.get("stream"):
        return reply
    error = {"message": "Internal Server Error", "type": "server_error"}
    sent = {"content-type": "application/json"}
    return RawReply(500, sent, [json.dumps({"error": error}).encode()])


def _in_usage(edit: Callable[[JSON], object]) -> Behaviour:
    """A server whose objects with a usage are edited, also those inside events."""

    def walk(value: Any) -> Any:
        for inner in value if isinstance(value, list) else ():
            walk(inner)
        if isinstance(value, dict):
            if isinstance(value.get("usage"), dict):
                edit(value)
            for key in ("response", "message"):
                walk(value.get(key))
        return value

    return Behaviour(
        "usage", reply=lambda body, call: walk(body), events=lambda found, call: walk(found)
    )


_COUNTS = {
    "prompt_tokens": 10,
    "input_tokens": 10,
    "completion_tokens": 5,
    "output_tokens": 5,
    "total_tokens": 15,
}


def _constant(body: JSON) -> None:
    body["usage"].update({k: v for k, v in _COUNTS.items() if k in body["usage"]})


CONSTANT_USAGE = _in_usage(_constant)
NO_USAGE = _in_usage(lambda body: body.pop("usage"))
NULL_DETAILS = _in_usage(lambda body: body["usage"].update(completion_tokens_details=None))

_OPEN = {
    "top_logprobs",
    "parameters",
    "metadata",
    "text",
    "json_schema",
    "input",
    "tools",
    "tool_choice",
}


def _with_extra(value: Any) -> Any:
    for inner in value if isinstance(value, list) else ():
        _with_extra(inner)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _OPEN and not (key == "delta" and not inner):
                _with_extra(inner)
        value["x_extra"] = {"of": "this server"}
    return value


def _stops(call: ReceivedRequest) -> list[str]:
    given = call.json.get("stop") if isinstance(call.json, dict) else None
    return [given] if isinstance(given, str) else list(given or [])


def _keeps_stop(body: JSON, call: ReceivedRequest) -> JSON:
    for choice in body.get("choices", []):
        holder, key = (choice, "text") if "text" in choice else (choice["message"], "content")
        text = holder.get(key) or ""
        ends = [text.find(stop) + len(stop) for stop in _stops(call) if stop in text]
        if ends:
            holder[key] = text[: min(ends)]
            choice["finish_reason"] = "stop"
    return body


def _takes_stop(body: JSON, call: ReceivedRequest) -> JSON:
    stop = body.get("stop")
    valid = isinstance(stop, str) or (isinstance(stop, list) and 0 < len(stop) <= 5)
    if valid and all(isinstance(s, str) for s in stop or ()) and not body.get("stream"):
        del body["stop"]
    return body


KEEPS_STOP = Behaviour("keeps stop", request=_takes_stop, reply=_keeps_stop)


def refusing(status: int, **headers: str) -> Behaviour:
    """A server that answers every request with this status."""
    body = json.dumps({"error": {"message": "no", "type": "x", "param": None, "code": None}})
    sent = {"content-type": "application/json", **headers}
    return Behaviour("refuses", wire=lambda reply, call: RawReply(status, sent, [body.encode()]))


def _parts_as_json(body: JSON, call: ReceivedRequest) -> JSON:
    for message in body.get("messages", ()):
        if isinstance(message["content"], list):
            message["content"] = json.dumps(message["content"])
    return body


PARTS_AS_JSON = Behaviour("parts as JSON", request=_parts_as_json)
THINKS = Behaviour("thinks", request=_thinks)
PLAIN_ERRORS = Behaviour("plain 404", wire=_plain_errors)
UNPROCESSABLE = Behaviour("422", wire=_unprocessable)
ANOTHER_FORM = Behaviour(
    "another form",
    reply=lambda body, call: _reversed(body),
    events=lambda found, call: _reversed(found),
    error=lambda body, call: _reversed(body),
    wire=_other_bytes,
)
FLAT_ERRORS = Behaviour("flat errors", wire=_flat_errors)
STREAMS_FAIL = Behaviour("500 to streams", wire=_streams_fail)
EXTRA_KEYS = Behaviour(
    "extra keys",
    reply=lambda body, call: _with_extra(body),
    events=lambda found, call: _with_extra(found),
    error=lambda body, call: _with_extra(body),
)
ACCEPTS_MORE = Behaviour(
    "accepts more",
    without_rules=frozenset({"chat.stop.max4", "chat.penalties.range"}),
)


def says(*texts: str) -> Script:
    """A script in which every answer has one text."""
    return Script(replies=repeat(*texts))


def says_another() -> Script:
    """A script in which every answer has a text of its own."""
    return Script(replies=(f"Answer {i} says another thing, such as {i * 31}." for i in count()))
