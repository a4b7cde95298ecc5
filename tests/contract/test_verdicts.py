"""The word of a verdict, and its reason, for servers that are wrong in one way or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.mutants.hooks import answering
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import run_check
from tests.contract import innocent

if TYPE_CHECKING:
    from llmengine.mock import ReceivedRequest

JSON = dict[str, Any]


def _mutant(check: str, name: str) -> Behaviour:
    return next(m.behaviour for m in mutants() if (m.check, m.behaviour.name) == (check, name))


def _refusing(field: str, path: str) -> Behaviour:
    """A server that does not take a field on a route where the API does not have it."""

    def request(body: JSON, call: ReceivedRequest) -> JSON:
        return {} if call.path == path and field in body else body

    return Behaviour(f"no {field} on {path}", request=request)


def _without_input(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
    for event in events:
        event.get("content_block", {}).pop("input", None)
    return events


def _continues(call: ReceivedRequest) -> bool:
    return "previous_response_id" in (call.json or {})


NO_CHAINS = {"error": {"message": "chains are not supported"}}
PENALTIES = "frequency_penalty=2.5, frequency_penalty=-2.5, presence_penalty=2.5"
VERDICTS: dict[str, tuple[str, Behaviour, Outcome, str]] = {
    "truncation is dropped": (
        "resp.effect.truncation",
        innocent.without("truncation"),
        Outcome.IGNORED,
        "truncation auto gets the error of disabled",
    ),
    "chains are refused in words": (
        "resp.previous_response_id.effect",
        Behaviour("no chains", wire=answering(501, NO_CHAINS, when=_continues)),
        Outcome.REFUSED,
        "501 “chains are not supported”",
    ),
    "background is dropped": (
        "resp.background.stream",
        innocent.without("background"),
        Outcome.IGNORED,
        "background was accepted, and the response in the first event says",
    ),
    "one choice comes": (
        "usage.n_sums_choices",
        innocent.without("n"),
        Outcome.IGNORED,
        "n=2 was accepted, and one choice came",
    ),
    "choices are joined": (
        "chat.stream.n_interleaved",
        _mutant("chat.stream.n_interleaved", "texts joined"),
        Outcome.FAIL,
        "the texts of several choices are joined",
    ),
    "a choice is dropped": (
        "chat.stream.n_interleaved",
        innocent.without("n"),
        Outcome.IGNORED,
        "one choice came",
    ),
    "usage beside the last choices": (
        "chat.stream.usage.null_elsewhere",
        _mutant("chat.stream.usage.final_chunk", "usage beside the choices"),
        Outcome.PASS,
        "",
    ),
    "a block without its input": (
        "messages.stream.blocks",
        Behaviour("no input", events=_without_input),
        Outcome.FAIL,
        "a block of the type 'tool_use' starts without input",
    ),
    "no usage": ("chat.max_tokens", innocent.NO_USAGE, Outcome.PASS, ""),
    "no usage and no limit": (
        "chat.max_tokens",
        replace(innocent.NO_USAGE, request=innocent.without("max_tokens").request),
        Outcome.IGNORED,
        "words came instead of 5 tokens",
    ),
    "penalties beyond the range have an effect": (
        "chat.penalties.range",
        innocent.ACCEPTS_MORE,
        Outcome.LENIENT,
        PENALTIES,
    ),
    "penalties are dropped": (
        "chat.penalties.range",
        innocent.without("frequency_penalty", "presence_penalty"),
        Outcome.IGNORED,
        "the text is the same as with frequency_penalty=-2",
    ),
    "a limit that is refused in the stream": (
        "chat.max_tokens.zero_negative",
        _mutant("chat.stream.error.before_first_byte", "a 200 first"),
        Outcome.FAIL,
        "max_tokens=-5 was refused in a stream with the status 200",
    ),
    "a role without a usage": (
        "chat.roles.unknown",
        replace(innocent.NO_USAGE, without_rules=frozenset({"chat.roles.unknown"})),
        Outcome.UNMEASURED,
        "the answer has no usage",
    ),
    "thinking without a temperature": (
        "messages.thinking",
        _refusing("temperature", "/v1/messages"),
        Outcome.PASS,
        "",
    ),
    "embeddings without a temperature": (
        "emb.usage_adds_up",
        _refusing("temperature", "/v1/embeddings"),
        Outcome.PASS,
        "",
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str) -> None:
    """The outcome is the right word, and the reason says what was seen."""
    rule, behaviour, outcome, reason = VERDICTS[name]
    (check,) = (c for c in select(ids=[rule]) if c.id == rule)
    with (
        MockServer(behaviour=behaviour) as server,
        Target(server.base_url, server.model) as target,
    ):
        result = run_check(check, target, Profile("mock"))

    assert result.outcome is outcome, result.reason
    assert reason in result.reason
