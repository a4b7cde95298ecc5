"""Rules about effects blame no server for its model, and no model hides what a server drops."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, Script
from llmengine.mock.text import prose
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.mutants.registry import Mutant, mutants
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import CheckResult, run_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine.mock import ReceivedRequest

JSON = dict[str, Any]

CHECKS = {c.id: c for c in select(ids=["effects", "chat.params", "chat.messages"])}
MUTANTS = [m for m in mutants() if m.check in CHECKS]
BABBLE = count()


def _prompt(body: JSON) -> str:
    messages = body.get("messages") or [{"content": body.get("prompt")}]
    content = messages[-1]["content"]
    parts = content if isinstance(content, list) else [content]
    return " ".join(str(p["text"] if isinstance(p, dict) else p) for p in parts)


MODELS: dict[str, Callable[[JSON], str]] = {
    "echoes": _prompt,
    "says one text": lambda _: "The quick brown fox jumps over the lazy dog.",
    "says one word": lambda _: "Yes.",
    "says nothing": lambda _: "",
    "babbles": lambda _: prose(f"babble {next(BABBLE)}"),
}
THREE = ("echoes", "says one text", "babbles")


@contextmanager
def _serving(behaviour: Behaviour, model: str) -> Iterator[Target]:
    """A server with this behaviour, whose model says something else than the mock's own."""
    asked: JSON = {}

    def request(body: JSON, call: ReceivedRequest) -> JSON:
        nonlocal asked
        asked = behaviour.request(body, call)
        return asked

    def said() -> str:
        return '{"answer": 4}' if "response_format" in asked else MODELS[model](asked)

    script = Script(replies=(said() for _ in count()))
    with (
        MockServer(behaviour=replace(behaviour, request=request), script=script) as server,
        Target(server.base_url, "mock") as target,
    ):
        yield target


def _result(check: str, target: Target) -> CheckResult:
    return run_check(CHECKS[check], target, Profile("mock"))


@pytest.fixture(scope="module", params=MODELS)
def other_model(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server that applies every field, with a model that may not show it."""
    with _serving(Behaviour(), request.param) as target:
        yield target


@pytest.mark.parametrize("check", CHECKS)
def test_a_server_that_applies_the_field_is_not_blamed(check: str, other_model: Target) -> None:
    """If the model cannot show the effect, the rule is unmeasured."""
    result = _result(check, other_model)
    assert result.outcome in {Outcome.PASS, Outcome.UNMEASURED}, result.reason


@pytest.mark.parametrize("model", THREE)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{m.check}-{m.behaviour.name}" for m in MUTANTS])
def test_a_server_that_drops_the_field_does_not_pass(mutant: Mutant, model: str) -> None:
    """A model that cannot show the effect does not hide that it is missing."""
    with _serving(mutant.behaviour, model) as target:
        result = _result(mutant.check, target)
    assert result.outcome is not Outcome.PASS
    assert result.reason


def test_a_server_that_merges_messages_is_not_blamed_for_its_parts() -> None:
    """Ollama makes one message of two, and its text parts are right."""
    merged = next(m for m in MUTANTS if m.check == "effects.chat.separate_messages")
    with _serving(merged.behaviour, "echoes") as target:
        result = _result("chat.content.parts_text", target)
    assert (result.outcome, result.reason) == (Outcome.PASS, "")


@pytest.mark.parametrize("name", ["effects.n.temperature", "messages.temperature"])
def test_two_texts_that_are_about_as_likely_are_no_finding(name: str) -> None:
    """A model may waver between two texts, although a tiny top_p leaves only one of them."""
    (check, *_) = select(ids=[name])
    likely = cycle(("wide", "deep", "wide", "wide", "deep", "deep", "deep", "wide"))

    def reply(body: JSON, call: ReceivedRequest) -> JSON:
        narrow = call.json.get("top_p", 1) < 0.1
        holders = [(choice["message"], "content") for choice in body.get("choices", ())]
        for holder, key in holders or [(body["content"][0], "text")]:
            holder[key] = f"The sea is {'wide' if narrow else next(likely)}."
        return body

    server = MockServer(behaviour=Behaviour("wavers", reply=reply))
    with server, Target(server.base_url, "mock") as target:
        result = run_check(check, target, Profile("mock"))
    assert result.outcome is Outcome.UNMEASURED, result.reason
    assert "whatever is asked" not in result.reason
