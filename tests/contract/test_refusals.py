"""The words of verdicts on bad requests: taken with an effect, dropped, or answered with a 5xx."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import Behaviour, MockServer, RawReply, ReceivedRequest
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.mutants.hooks import crashes_on, forgets, messages
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import CheckResult, run_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON

MODEL_ROUTE = frozenset({"/v1/models/{name:path}"})


def run(rule: str, behaviour: Behaviour) -> CheckResult:
    """The result of a rule on a server that differs from the reference."""
    with (
        MockServer(behaviour=behaviour) as server,
        Target(server.base_url, server.model) as target,
    ):
        return run_check(catalogue()[rule], target, Profile("mock"))


def off(*rules: str) -> Behaviour:
    """A server that takes what these rules refuse."""
    return Behaviour(without_rules=frozenset(rules))


def _converting(body: JSON, call: ReceivedRequest) -> JSON:
    """As a server reads a body that converts texts to the types of the fields."""
    limit, stream = body.get("max_tokens"), body.get("stream")
    if isinstance(limit, str) and limit.isdigit():
        body["max_tokens"] = int(limit)
    if isinstance(stream, str):
        body["stream"] = stream == "yes"
    return body


CONVERTS = Behaviour("converts", request=_converting)
NO_WIZARD = Behaviour(
    "no wizard",
    request=messages(lambda found: [m for m in found if m["role"] != "wizard"]),
    without_rules=frozenset({"chat.messages.min1", "messages.messages.min1"}),
)


def _custom_as_text(body: JSON, call: ReceivedRequest) -> JSON:
    """The tools stand in the prompt, and none of them can be called."""
    tools = body.pop("tools", None)
    body.pop("tool_choice", None)
    if tools:
        body["messages"][0]["content"] += json.dumps(tools)
    return body


def _failing(when: Callable[[bytes], object], *, envelope: bool = True) -> Behaviour:
    """A server that answers 500 to some bodies, in its usual envelope or in another one."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if not when(call.body):
            return reply
        chunks = reply.chunks if envelope else [b'{"error": {"message": "Broken."}}']
        return RawReply(500, reply.headers, chunks)

    return Behaviour("fails", wire=wire)


def _is_cut(body: bytes) -> bool:
    return body == b'{"model": '


@pytest.mark.parametrize(
    ("rule", "behaviour", "outcome"),
    [
        ("chat.model.required", off("chat.model.required"), Outcome.LENIENT),
        ("chat.roles.unknown", off("chat.roles.unknown"), Outcome.LENIENT),
        ("chat.roles.unknown", NO_WIZARD, Outcome.IGNORED),
        ("messages.roles.unknown", off("messages.roles.unknown"), Outcome.LENIENT),
        ("messages.roles.unknown", NO_WIZARD, Outcome.IGNORED),
        ("messages.wrong_type.max_tokens", CONVERTS, Outcome.LENIENT),
        (
            "messages.wrong_type.max_tokens",
            Behaviour("drops", request=lambda body, call: body | {"max_tokens": 16}),
            Outcome.IGNORED,
        ),
        ("messages.wrong_type.stream", CONVERTS, Outcome.LENIENT),
        (
            "messages.wrong_type.stream",
            Behaviour("drops", request=forgets("stream")),
            Outcome.IGNORED,
        ),
        (
            "models.retrieve_equals_list",
            Behaviour("no route", disabled_routes=MODEL_ROUTE),
            Outcome.FAIL,
        ),
        ("err.shape", _failing(_is_cut, envelope=False), Outcome.PASS),
        ("err.type_values", _failing(lambda body: b"messages" not in body), Outcome.UNMEASURED),
        ("messages.error.envelope", _failing(_is_cut), Outcome.PASS),
        ("messages.error.envelope", _failing(_is_cut, envelope=False), Outcome.FAIL),
    ],
)
def test_the_word_fits_what_the_server_did(
    rule: str, behaviour: Behaviour, outcome: Outcome
) -> None:
    """A value that is taken is lenient if it has its effect, and ignored if it is dropped."""
    result = run(rule, behaviour)
    assert result.outcome is outcome, result.reason


def test_a_header_that_is_not_read_is_one_cause() -> None:
    """The two rules about the version of the Messages API notice the same."""
    unread = off("messages.version")
    results = [run(rule, unread) for rule in ("messages.version", "messages.version.sampling")]
    assert {result.outcome for result in results} == {Outcome.LENIENT}
    assert {result.fact for result in results} == {"the header anthropic-version is not read"}


def test_every_field_that_crashes_the_server_is_named() -> None:
    """One 5xx does not hide the others, nor the fields that are taken."""
    result = run(
        "refusal.types.chat",
        Behaviour(
            "crashes on two fields",
            wire=lambda reply, call: crashes_on(b'"tools"')(
                crashes_on(b'"stop"')(reply, call), call
            ),
            request=forgets("user"),
        ),
    )
    assert result.outcome is Outcome.FAIL
    assert result.reason.endswith("answered with a 5xx: stop, tools; accepted with 200: user")


def test_a_custom_tool_that_the_model_sees_was_not_dropped() -> None:
    """The prompt has more tokens with it, and the reason says so."""
    result = run("refusal.custom_tool", Behaviour("as text", request=_custom_as_text))
    assert result.outcome is Outcome.IGNORED
    assert "was accepted and changed the prompt" in result.reason
    assert "dropped" not in result.fact
