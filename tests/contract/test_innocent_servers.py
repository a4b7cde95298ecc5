"""A server is not blamed for its model, or for one deviation more often than once."""

from __future__ import annotations

import pytest

from llmengine.mock import Behaviour, MockServer, Script
from pytest_llmengine.contract.outcomes import Outcome
from tests.contract import innocent
from tests.contract.innocent import results, rules

_FINE = {Outcome.PASS, Outcome.UNMEASURED, Outcome.LENIENT}
_OF_TEXT = ("chat.", "comp.", "logprobs.", "effects.", "resp.", "struct.", "tools.", "usage.")
# What a server must enforce, whatever its model would say.
_ENFORCED = ("struct.", "tools.", "resp.tool_choice", "resp.effect.json_", "messages.tool_choice")
_ENFORCED_TOO = ("messages.stream.tool_choice", "messages.output_config", "effects.n.response")
_COUNTED = ("usage.", "resp.input_tokens", "effects.embeddings.usage", "messages.usage")

# Each server, the rules that run on it, and the start of the ids that may be other than a pass.
SERVERS: dict[str, tuple[Behaviour, tuple[str, ...], tuple[str, ...]]] = {
    "thinks": (innocent.THINKS, ("chat.", "logprobs.", "effects.n", "resp.stream", "struct."), ()),
    "plain 404 and 405": (
        innocent.PLAIN_ERRORS,
        ("err.", "models.", "chat.request", "resp.", "auth.", "hdr."),
        ("err.routes_json",),
    ),
    "422 instead of 400": (
        innocent.UNPROCESSABLE,
        ("err.", "chat.", "comp.", "emb.", "resp.invalid", "messages.", "struct.", "tools."),
        ("err.status",),
    ),
    "constant usage": (
        innocent.CONSTANT_USAGE,
        ("chat.", "comp.", "effects.", "usage.", "resp.previous", "logprobs."),
        (
            *_COUNTED,
            "comp.prompt.tokens",
            "effects.completions.default_max_tokens",
            "effects.completions.best_of",
            "logprobs.length_matches_tokens",
        ),
    ),
    "extra keys": (innocent.EXTRA_KEYS, ("chat.", "tools.", "resp.conv", "comp.", "emb."), ()),
    "another form": (
        innocent.ANOTHER_FORM,
        (
            "chat.stream.s",
            "chat.message",
            "comp.stream",
            "resp.stream.o",
            "messages.stream",
            "hdr.",
        ),
        (),
    ),
    "stop is kept": (
        innocent.KEEPS_STOP,
        ("chat.stop", "chat.finish", "effects.completions.stop"),
        ("chat.stop.string_array", "chat.stop.max4", "effects.completions.stop"),
    ),
    "accepts more": (innocent.ACCEPTS_MORE, ("chat.",), ()),
    "drops tool_choice": (
        innocent.without("tool_choice"),
        ("tools.", "effects.chat.", "chat."),
        ("tools.", "effects.chat.allowed", "chat.tools."),
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_only_the_cause_is_a_finding(name: str) -> None:
    """The rules that do not pass are those about the deviation."""
    behaviour, prefixes, allowed = SERVERS[name]
    with MockServer(behaviour=behaviour) as server:
        found = results(server, rules(*prefixes))
    wrong = {r.check.id: (r.outcome.value, r.reason) for r in found if r.outcome not in _FINE}
    assert {k: v for k, v in wrong.items() if not k.startswith(allowed)} == {}, name
    assert any(r.outcome is Outcome.PASS for r in found)
    assert not allowed or wrong


MODELS = {
    "says OK": lambda: innocent.says("OK"),
    "says another thing each time": innocent.says_another,
}


def test_a_model_that_says_nothing_shows_nothing() -> None:
    """A server whose answers are all empty is not blamed for what they lack."""
    of_text = ("chat.stream.usage", "comp.logprobs", "comp.stream", "messages.", "resp.usage")
    enforced = ("refusal.custom", "resp.effect.json", "resp.tool_choice", "struct.", "tools.choice")
    with MockServer(script=innocent.says("")) as server:
        found = results(server, rules(*of_text, *enforced))
    wrong = {r.check.id: (r.outcome.value, r.reason) for r in found if r.outcome not in _FINE}
    assert wrong == {}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_not_a_server(name: str) -> None:
    """What a model says makes no rule fail, except where the server must enforce something."""
    script: Script = MODELS[name]()
    with MockServer(script=script) as server:
        found = results(server, rules("chat.", "logprobs.", "tools.", "struct."))
    allowed = (*_ENFORCED, *_ENFORCED_TOO)
    wrong = {r.check.id: (r.outcome.value, r.reason) for r in found if r.outcome not in _FINE}
    assert {k: v for k, v in wrong.items() if not k.startswith(allowed)} == {}


@pytest.mark.parametrize(
    "behaviour",
    [
        innocent.refusing(429),
        innocent.refusing(429, **{"retry-after": "1"}),
        innocent.refusing(401),
        innocent.refusing(403),
    ],
    ids=["429", "429 with Retry-After", "401", "403"],
)
def test_a_client_that_is_refused_gets_no_verdict(behaviour: Behaviour) -> None:
    """A status that refuses the client says nothing about the rules."""
    with MockServer(behaviour=behaviour) as server:
        found = results(server, rules()[::3])
    expected = {Outcome.ERROR, Outcome.UNMEASURED}
    assert {r.check.id: r.reason for r in found if r.outcome not in expected} == {}


def test_tool_choice_that_is_dropped_does_not_pass() -> None:
    """No rule about a forced call passes by luck."""
    forced = ("tools.choice.required", "tools.choice.named", "tools.choice.none")
    with MockServer(behaviour=innocent.without("tool_choice")) as server:
        found = results(server, rules(*forced))
    assert {r.check.id for r in found if r.outcome is Outcome.PASS} == set()


def test_optional_usage() -> None:
    """An answer without usage, which is optional, fails no rule about anything else."""
    with MockServer(behaviour=innocent.NO_USAGE) as server:
        more = ("usage.", "reasoning.", "resp.usage", "resp.stream.usage")
        found = results(server, rules("chat.", "logprobs.", "effects.", *more))
    asked = ("chat.stream.usage.", "effects.embeddings.usage")  # asked for, or required
    wrong = {r.check.id: r.reason for r in found if r.outcome not in _FINE}
    assert {k: v for k, v in wrong.items() if not k.startswith(asked)} == {}


def test_a_negative_limit_that_means_none() -> None:
    """The client leaves an answer without a limit, and does not wait for its end."""
    from pytest_llmengine.contract.mutants.registry import mutants  # noqa: PLC0415

    (behaviour,) = [m.behaviour for m in mutants() if "-5 means" in m.behaviour.name]
    with MockServer(behaviour=behaviour) as server:
        (check,) = [c for c in _all() if c.id == "chat.max_tokens.zero_negative"]
        (found,) = results(server, [check])
    assert found.outcome is Outcome.IGNORED
    assert any(len(e.response_body) < 100_000 for e in found.exchanges[-1:])


def _all() -> list[innocent.Check]:
    return list(innocent.catalogue().values())


@pytest.mark.parametrize("rule", ["effects.completions.stop", "chat.stop.max4"])
def test_a_stop_sequence_that_is_kept_is_not_an_ignored_one(rule: str) -> None:
    """A text that ends with its stop sequence breaks the rule, and the field was read."""
    with MockServer(behaviour=innocent.KEEPS_STOP) as server:
        (found,) = results(server, rules(rule))
    assert (found.outcome, found.fact) == (Outcome.FAIL, "the stop sequence is kept in the text")


def test_a_name_that_openai_refuses_is_harmless() -> None:
    """A server that accepts such a name, and does all else that was asked, is lenient."""
    names = frozenset({"tools.name", "struct.json_schema.name"})
    with MockServer(behaviour=Behaviour("any name", without_rules=names)) as server:
        found = results(server, rules("tools.name.invalid", "struct.name.invalid"))
    assert [result.outcome for result in found] == [Outcome.LENIENT] * 2
