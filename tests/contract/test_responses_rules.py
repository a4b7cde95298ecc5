"""The rules of the responses API on servers and models that lack something."""

from __future__ import annotations

import random
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, Script
from pytest_llmengine.contract.checks.responses_settings import repeats
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_llmengine.contract.runner import CheckResult

    Run = Callable[..., dict[str, CheckResult]]

STATE = "responses.state"


@contextmanager
def _runner(replies: Iterable[Any] = (), **behaviour: Any) -> Iterator[Run]:
    """A function that runs checks on one mock server, and returns the results by id."""
    with (
        MockServer(behaviour=Behaviour(**behaviour)) as server,
        Target(server.base_url, server.model) as target,
    ):
        server.play(Script(replies=replies))
        yield lambda *ids: {
            c.id: run_check(c, target, Profile("mock")) for c in select(ids=ids) if not c.heavy
        }


def _babble() -> Iterator[str]:
    chance = random.Random(7)
    while True:
        yield " ".join(chance.choices(["sea", "ship", "sand", "wind"], k=chance.randint(3, 30)))


@pytest.mark.parametrize("replies", [repeat("ok"), _babble()], ids=["constant", "babble"])
def test_model_is_not_blamed_for_what_it_says(replies: Iterable[str]) -> None:
    """A model that is deaf to its prompt breaks only rules that a server must enforce."""
    with _runner(replies) as run:
        results = run("resp")
    broken = {name for name, r in results.items() if r.outcome is Outcome.IGNORED}

    assert {r.outcome for r in results.values()} == {
        Outcome.PASS,
        Outcome.IGNORED,
        Outcome.UNMEASURED,
    }
    assert broken == {
        "resp.effect.json_object",
        "resp.effect.json_schema",
        "resp.text.exact",
        "resp.tool_choice",
        "resp.tool_choice.allowed",
        "resp.tool_choice.named",
        "resp.tool_choice.stream",
    }


def test_server_without_the_api_is_one_finding() -> None:
    """Every rule ends as refused, and for the same cause."""
    with _runner(disabled_routes=frozenset({"/v1/responses"})) as run:
        results = run("resp").values()

    assert {r.outcome for r in results} == {Outcome.REFUSED}
    facts = [r.fact for r in results if "/responses/input_tokens" not in r.reason]
    # The rules that are shared with other APIs name the cause by the 404.
    assert {fact for fact in facts if "404" not in fact} == {"there is no /responses"}
    assert len(set(facts)) == 2


@pytest.mark.parametrize(
    ("behaviour", "rules"),
    [
        (
            {"disabled_routes": frozenset({"GET /v1/responses/{response_id}"})},
            ("resp.store", "resp.get", "resp.delete", "resp.input_items", "resp.state.schema"),
        ),
        (
            {"request": lambda body, call: {**body, "store": False}},
            ("resp.store.retrieve", "resp.previous_response_id", "resp.state.schema"),
        ),
    ],
    ids=["no route", "nothing stored"],
)
def test_server_without_memory_is_one_finding(
    behaviour: dict[str, Any], rules: tuple[str, ...]
) -> None:
    """A server that accepts store and keeps nothing ignores it, for one cause."""
    with _runner(**behaviour) as run:
        results = run(*rules).values()

    assert {(r.outcome, r.fact) for r in results} == {(Outcome.IGNORED, "responses are not stored")}


def test_chain_that_is_refused_in_words_is_refused() -> None:
    """A server that turns down previous_response_id does not pretend to have it."""

    def refuse(body: dict[str, Any], call: object) -> dict[str, Any]:
        return {**body, "input": 5} if "previous_response_id" in body else body

    with _runner(request=refuse) as run:
        results = run("resp.previous_response_id").values()

    assert {r.outcome for r in results} == {Outcome.REFUSED}


def test_refusals_of_the_model_are_streamed_in_order() -> None:
    """The rules about order and sums read the deltas of a refusal too."""

    def lose(events: list[dict[str, Any]], call: object) -> list[dict[str, Any]]:
        return [e for e in events if e["type"] != "response.refusal.done"]

    refusal = {"refusal": "I cannot do that."}
    checks = ("resp.stream.text.order", "resp.stream.text.sums", "resp.stream.text.items")
    with _runner(repeat(refusal)) as run:
        assert {r.outcome for r in run(*checks).values()} == {Outcome.PASS}
    with _runner(repeat(refusal), events=lose) as run:
        assert run(*checks)["resp.stream.text.sums"].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ({"a": 1, "b": None}, {"a": 1}, True),  # a default was added
        ({"b": None}, {"a": 1}, False),
        ([{"type": "function", "strict": True}], [{"type": "function"}], True),
        ([], [{"type": "function"}], False),
        (0.5, 0.5, True),
        (17.0, 17, True),
        (1, True, False),
        (None, "auto", False),
    ],
)
def test_setting_is_repeated_with_defaults(given: object, wanted: object, same: bool) -> None:
    """An object may have more keys than were sent; everything else is equal."""
    assert repeats(given, wanted) is same
