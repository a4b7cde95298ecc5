"""Generated mutants: their mutations, their fates, and the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.accepted_mutants import reason_to_accept
from pytest_llmengine.contract.generated_mutants import (
    Fate,
    GeneratedCoverage,
    measure_generated,
)
from pytest_llmengine.contract.mutants.hooks import mutated
from pytest_llmengine.contract.mutations import Mutation, mutations
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.surface import Place, record_surface

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT, MODELS = "POST /chat/completions", "GET /models"
STREAM = f"{CHAT} stream"


def _answer(kind: str, part: str, path: str, operator: str) -> dict[str, Any]:
    """A whole answer of a mock server with this mutation."""
    behaviour = mutated(kind, part, path, operator)
    with MockServer(behaviour=behaviour) as server, Target(server.base_url, "mock") as target:
        return target.chat(n=2).success()


@pytest.mark.parametrize(
    ("operator", "contents"),
    [
        ("dropped", [..., ...]),
        ("null", [None, None]),
        ("as number", [7.5, 7.5]),
        ("empty", ["", ""]),
        ("another", ["something_else", "something_else"]),
    ],
)
def test_a_mutation_changes_each_value_at_its_path(operator: str, contents: list[object]) -> None:
    """The messages of both choices are changed."""
    body = _answer(CHAT, "", "choices.[].message.content", operator)
    assert [c["message"].get("content", ...) for c in body["choices"]] == contents


def test_a_mutation_leaves_other_answers_alone() -> None:
    """A whole answer is not changed by a mutation of streams."""
    assert _answer(STREAM, "text", "id", "dropped")["id"]


@pytest.mark.parametrize(
    ("operator", "texts"),
    [
        ("first event dropped", ["b", "c"]),
        ("last event dropped", ["a", "b"]),
        ("every event dropped", []),
        ("first event twice", ["a", "a", "b", "c"]),
        ("last event twice", ["a", "b", "c", "c"]),
        ("first event after the next", ["b", "a", "c"]),
    ],
)
def test_events_are_dropped_repeated_and_moved(operator: str, texts: list[str]) -> None:
    """The mutation is made among the events of one part."""
    behaviour = mutated(STREAM, "text", "", operator)
    with MockServer(behaviour=behaviour) as server, Target(server.base_url, "mock") as target:
        chunks = target.chat("Repeat exactly: a b c", stream=True).objects()
    deltas = [c["delta"].get("content") for chunk in chunks for c in chunk["choices"]]
    assert [delta.strip() for delta in deltas if delta] == texts


def test_a_key_is_sent_twice() -> None:
    """The bytes have the key twice, which a parser hides."""
    behaviour = mutated(CHAT, "", "", "first key twice")
    with MockServer(behaviour=behaviour) as server, Target(server.base_url, "mock") as target:
        assert target.chat().text.startswith('{"id":null,"id":"chatcmpl-')


def _weak() -> Iterator[Mutation]:
    return mutations(record_surface(select(ids=["models.list.shape"])))


def test_every_field_that_a_check_reads_is_mutated() -> None:
    """Each field of the list of models is dropped, retyped and swapped."""
    made = {str(mutation) for mutation in _weak()}
    for field in ("object", "data", "data[].id", "data[].created", "data[].owned_by"):
        assert {f"{MODELS} {field}: dropped", f"{MODELS} {field}: as list"} <= made
    assert f"{MODELS} data[].created: one more" in made
    assert f"{MODELS} data[]: id and owned_by swapped" in made


def test_a_weak_catalogue_leaves_survivors() -> None:
    """One check of the shape notices a lost field, and not a wrong owner."""
    weak = measure_generated(select(ids=["models.list.shape"]))
    fates = {str(fate.mutation): fate.noticed_by for fate in weak.fates}
    assert fates[f"{MODELS} data[].owned_by: dropped"] == "models.list.shape"
    assert fates[f"{MODELS} data[].owned_by: another"] == ""
    assert f"{MODELS} data[].owned_by: another" in weak.to_dict()["survivors"]
    assert not weak.complete


def test_the_rules_of_models_notice_more_than_one_of_them() -> None:
    """Without a rule that uses the listed id, only a wrong id is left."""
    rules = ["models.list", "models.schema", "models.retrieve_equals_list"]
    strong = measure_generated(select(ids=rules))
    assert {m.place.path[-1] for m in strong.survivors if m.swapped is None} == {"id"}
    assert strong.complete


def test_a_sample_is_drawn_by_its_seed() -> None:
    """The same seed draws the same mutants, and another seed others."""

    def sample(seed: int) -> list[str]:
        found = measure_generated(select(ids=["models.list.shape"]), sample=8, seed=seed)
        return [str(fate.mutation) for fate in found.fates]

    assert len(sample(1)) == 8
    assert sample(1) == sample(1) != sample(2)


def test_processes_find_what_one_process_finds() -> None:
    """The fates do not depend on the number of processes."""
    checks = select(ids=["models.list.shape"])
    alone = measure_generated(checks, sample=50, jobs=1)
    assert measure_generated(checks, sample=50, jobs=2).to_dict() == alone.to_dict()


def _fates(killed: int, survivors: int, accepted: int) -> GeneratedCoverage:
    breaking = Mutation(Place(CHAT, "", ("id",)), "dropped")
    harmless = Mutation(Place("error", "", ("error", "message")), "lower case")
    return GeneratedCoverage(
        [
            *(Fate(breaking, "chat.schema") for _ in range(killed)),
            *(Fate(breaking) for _ in range(survivors)),
            *(Fate(harmless) for _ in range(accepted)),
        ]
    )


def test_accepted_survivors_have_a_reason_and_do_not_count() -> None:
    """They are listed with the reason, and do not count in the share."""
    found = _fates(killed=19, survivors=1, accepted=3)
    reason = "The message is free text for people."
    assert found.to_dict() == {
        "total": 23,
        "killed": 19,
        "accepted": {reason: 3},
        "survivors": [f"{CHAT} id: dropped"],
        "untried": 0,
    }
    first, *rest = found.lines()
    assert "23 generated mutants: 19 noticed, 1 survive, 3 accepted; 95.0%" in first
    assert rest[:2] == [f"survives: {CHAT} id: dropped", f"accepted: {reason}"]
    assert rest[2:] == ["    error error.message: lower case"] * 3


@pytest.mark.parametrize(
    ("place", "accepted"),
    [
        (Place("POST /responses", "", ("service_tier",)), True),
        (Place("POST /responses", "", ("temperature",)), False),
        (Place("POST /responses stream", "response.completed", ("response", "user")), True),
        (Place("POST /responses stream", "response.completed", ("response", "id")), False),
        (Place("POST /responses", "", ("output", "[]", "content", "[]", "text")), False),
        (Place("POST /completions", "", ("usage",)), True),
        (Place("POST /completions", "", ("model",)), False),
    ],
    ids=str,
)
def test_only_optional_fields_may_be_dropped(place: Place, accepted: bool) -> None:
    """The specification says which fields of an answer or of an event are required."""
    assert bool(reason_to_accept(Mutation(place, "dropped"))) is accepted


@pytest.mark.parametrize(("killed", "complete"), [(19, True), (18, False), (0, False)])
def test_the_goal_is_95_percent(killed: int, complete: bool) -> None:
    """One of 20 mutants that break the specification may survive."""
    assert _fates(killed, survivors=1, accepted=9).complete is complete


def test_a_run_that_was_interrupted_is_not_complete() -> None:
    """What was not tried may survive."""
    found = GeneratedCoverage(_fates(19, survivors=0, accepted=0).fates, untried=5)
    assert not found.complete
    assert list(found.lines())[1] == "interrupted: 5 more mutants were not tried"


def test_nothing_tried_is_not_complete() -> None:
    """A catalogue that reads nothing shows nothing."""
    assert not GeneratedCoverage([]).complete
