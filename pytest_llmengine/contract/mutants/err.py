"""Mutants of err."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import put, rule_off, without
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest


def _flat(body: JSON, call: ReceivedRequest) -> JSON:
    return {"object": "error", **body["error"]}


def _one_string(body: JSON, call: ReceivedRequest) -> JSON:
    return {"error": body["error"]["message"]}


def _web_page(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status < 400:
        return reply
    return RawReply(reply.status, {"content-type": "text/html"}, [b"<h1>Bad request</h1>"])


def _declare_text(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status >= 400:
        reply.headers["content-type"] = "text/plain"
    return reply


def _cut_to_fit(body: JSON, call: ReceivedRequest) -> JSON:
    messages = [m | {"content": m["content"][:1000]} for m in body.get("messages", [])]
    return {**body, "messages": messages}


def _unprocessable(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 422 if reply.status == 400 else reply.status
    return reply


def _no_such_path(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 404 if reply.status == 405 else reply.status
    return reply


NO_WORDS = Behaviour("refused without a word", error=put("", "error", "message"))

for field in ("message", "type", "param", "code"):
    mutant("err.shape", Behaviour(f"no {field}", error=without("error", field)))
mutant("err.shape", Behaviour("flat", error=_flat))
mutant("err.shape", Behaviour("one string", error=_one_string))

mutant("err.code_string_or_null", Behaviour("a number", error=put(400, "error", "code")))
mutant("err.code_string_or_null", Behaviour("no code", error=without("error", "code")))
mutant("err.type_values", Behaviour("a class", error=put("BadRequestError", "error", "type")))

mutant("err.content_type_json", Behaviour("a web page", wire=_web_page))
mutant("err.content_type_json", Behaviour("said to be text", wire=_declare_text))

for name in (
    "err.malformed_json",
    "err.nonobject_body",
    "err.wrong_content_type",
    "err.not_found_path",
    "err.method",
):
    rule_off(name)
    mutant(name, NO_WORDS)
mutant("err.method", Behaviour("404 for 405", wire=_no_such_path))
mutant("err.routes_json", Behaviour("a web page", wire=_web_page))
mutant("err.routes_json", Behaviour("flat", error=_flat))
mutant("err.status", Behaviour("422 for 400", wire=_unprocessable))

rule_off("err.unknown_model")
mutant("err.unknown_model", Behaviour("no code", error=put(None, "error", "code")))

mutant("err.context_overflow", Behaviour("cut to fit", request=_cut_to_fit))
mutant("err.context_overflow", Behaviour("no code", error=put(None, "error", "code")))
