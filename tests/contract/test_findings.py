"""One cause is one finding, however many rules notice it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, RawReply, ReceivedRequest
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.outcomes import kind_of
from pytest_llmengine.reports.findings import findings
from pytest_llmengine.reports.known import known_reports
from pytest_llmengine.reports.model import CheckRecord, ContractReport
from tests.contract import innocent

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.runner import CheckResult


def _without_choice_objects(body: dict[str, Any], call: object) -> dict[str, Any]:
    words = isinstance(body.get("tool_choice"), str)
    return body if words else {k: v for k, v in body.items() if k != "tool_choice"}


_KEYS = {"id", "object", "created"}


def _bare_error(body: JSON, call: ReceivedRequest) -> JSON:
    error = {key: body["error"][key] for key in ("message", "type")}
    return body | {"error": error}


def _bad_request(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 400 if reply.status == 404 else reply.status
    return reply


def _no_images(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if b"image" not in call.body:
        return reply
    error = {"message": "image input is not supported", "type": "server_error"}
    return RawReply(500, reply.headers, [json.dumps({"error": error}).encode()])


NO_START = ("messages.stream.order", "no start")
# Each server, the rules that run on it, and the most findings that a reader accepts.
CAUSES: dict[str, tuple[Behaviour, tuple[str, ...], int]] = {
    "no /responses": (
        Behaviour("no route", disabled_routes=frozenset({"/v1/responses"})),
        ("resp.required", "resp.output", "resp.usage", "resp.stream."),
        2,  # the rules of consistency name the cause by the answer of the route
    ),
    "logprobs are dropped": (
        innocent.without("logprobs", "top_logprobs"),
        ("logprobs.s", "logprobs.t", "chat.stream.logprobs", "effects.stream.logprobs"),
        1,
    ),
    "response_format is dropped": (
        innocent.without("response_format"),
        ("struct.json_schema.strict", "struct.stream", "struct.with_tools", "struct.matrix."),
        1,
    ),
    "streams are answered with 500": (
        innocent.STREAMS_FAIL,
        ("chat.stream.", "comp.stream.", "resp.stream.", "messages.stream.error"),
        4,  # each route has code of its own
    ),
    "details of the usage are null": (
        innocent.NULL_DETAILS,
        ("chat.schema_nulls", "chat.stream.schema_nulls", "comp.schema_nulls"),
        1,
    ),
    "tools are dropped": (
        innocent.without("tools", "tool_choice", "parallel_tool_calls"),
        ("tools.choice.", "tools.name", "tools.fields.", "effects.chat.tool", "refusal.custom"),
        1,
    ),
    "a tool_choice that is an object is dropped": (
        Behaviour("no objects", request=_without_choice_objects),
        ("tools.choice.", "effects.chat.allowed", "effects.n.tool_choice", "resp.tool_choice"),
        1,
    ),
    "tool_choice is dropped": (
        innocent.without("tool_choice"),
        ("tools.choice.", "effects.n.tool_choice", "resp.tool_choice", "messages.tool_choice"),
        4,  # none, required, named functions and unknown values are read by different code
    ),
    "messages have no usage": (
        innocent.NO_USAGE,
        ("messages.",),
        1,
    ),
    "messages ignore max_tokens": (
        Behaviour("cap ignored", request=lambda body, call: {**body, "max_tokens": 64}),
        ("messages.usage", "messages.max_tokens", "messages.stream.max_tokens"),
        1,
    ),
    "messages have no message_start": (
        next(m.behaviour for m in mutants() if (m.check, m.behaviour.name) == NO_START),
        ("messages.stream.",),
        1,
    ),
    "no /messages": (
        Behaviour("no route", disabled_routes=frozenset({"/v1/messages"})),
        ("messages.",),
        1,
    ),
    "keys of a chat completion are missing": (
        Behaviour(
            "keys lost",
            reply=lambda body, call: {k: v for k, v in body.items() if k not in _KEYS},
        ),
        ("chat.basic.required", "chat.basic.object", "chat.basic.id_unique", "chat.schema"),
        1,
    ),
    "the keys of errors are missing": (
        Behaviour("keys lost", error=_bare_error),
        ("err.shape", "err.code", "err.unknown_model", "err.schema"),
        1,
    ),
    "an unknown model is a 400": (
        Behaviour("400", wire=_bad_request),
        ("err.unknown_model", "messages.unknown_model"),
        1,
    ),
    "images are answered with 500": (
        Behaviour("500", wire=_no_images),
        ("refusal.image", "refusal.resp.image", "messages.content.image"),
        1,
    ),
    "the error is a text": (
        innocent.FLAT_ERRORS,
        ("err.shape", "err.code", "err.type", "err.param", "err.schema", "messages.error"),
        2,  # the errors of the Messages API have another form
    ),
    "stop is dropped": (
        innocent.without("stop"),
        ("chat.stop.", "effects.stream.stop", "effects.n.stop"),
        1,
    ),
    "n is dropped": (
        innocent.without("n"),
        (
            "chat.n.multiple",
            "chat.stream.n_interleaved",
            "effects.completions.n",
            "usage.n_sums_choices",
        ),
        2,  # the rule about several prompts counts other choices
    ),
    "unknown fields of chats are dropped": (
        innocent.without(
            *("store", "metadata", "service_tier", "modalities", "audio", "moderation"),
            "stream_options",
        ),
        (
            *("chat.store", "chat.metadata", "chat.service_tier", "effects.stream.store"),
            *("effects.stream.service_tier", "effects.stream.include_obfuscation"),
            *("effects.completions.include_obfuscation", "resp.stream.obfuscation"),
            *("refusal.audio_output", "refusal.moderation"),
        ),
        1,
    ),
    "unknown efforts are accepted": (
        Behaviour(
            "any effort",
            without_rules=frozenset({"chat.reasoning_effort", "resp.reasoning.effort"}),
        ),
        ("chat.reasoning_effort", "resp.invalid.effort"),
        1,
    ),
    "include is dropped": (
        innocent.without("include"),
        ("resp.effect.include", "resp.effect.encrypted", "resp.logprobs.alternatives"),
        1,
    ),
    "best_of is dropped": (
        innocent.without("best_of"),
        ("effects.completions.best_of", "comp.best_of."),
        1,
    ),
    "the parts of a text are shown as JSON": (
        innocent.PARTS_AS_JSON,
        ("chat.content.parts_text", "messages.content.blocks"),
        1,
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_one_cause(cause: str) -> None:
    """Later verdicts follow from the first one with the same cause."""
    behaviour, prefixes, most = CAUSES[cause]
    with MockServer(behaviour=behaviour) as server:
        found = innocent.results(server, innocent.rules(*prefixes))
    report = _report(found)
    causes = [(c.id, c.fact) for c in report.checks if not c.accepted]
    assert len(causes) > report.findings
    assert 1 <= report.findings <= most, causes


def test_few_findings_on_real_servers_repeat_a_reason() -> None:
    """In the shipped reports, most verdicts follow, and few that do not say the same as another."""
    repeated = total = followed = 0
    for known in known_reports():
        found = findings(known.report)
        followed += sum(len(one.others) for one in found)
        total += len(found)
        kinds = {kind_of(_observed(one.example.reason)) for one in found}
        repeated += len(found) - len(kinds)
    assert followed > total
    assert repeated < total / 10


def _observed(reason: str) -> str:
    """What was seen, without what the profile says of it."""
    return reason.rpartition("; seen: ")[2].removesuffix(")")


def _report(found: list[CheckResult]) -> ContractReport:
    return ContractReport(None, tuple(map(CheckRecord.of, found)))  # type: ignore[arg-type]
