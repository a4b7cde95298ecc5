"""Structured output of a real model behind a real server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llmengine import Engine, EngineConfig, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=120)


class Person(BaseModel):
    """Short enough for a small model."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


class Team(BaseModel):
    """Models in models, a list and a choice."""

    lead: Person
    members: list[Person] = Field(max_length=1)
    mood: Literal["good", "bad"]


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    name: str = Field(max_length=8)


class Pet(BaseModel):
    """A union that a tag decides."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.fixture(scope="module")
def engine(embedded: EngineConfig) -> Engine:
    """An engine of the embedded backend."""
    return embedded.engine


@pytest.mark.parametrize("model", [Team, Pet, list[Person]], ids=str)
def test_probe_says_enforced_and_the_answer_is_parsed(engine: Engine, model: Any) -> None:
    """A model of 135M parameters can do it only because the server enforces the schema."""
    (result,) = engine.results("Tell me about a team.", GREEDY, output_model=model)

    assert result.unwrap().parsed is not None
    assert result.unwrap().schema_strategy == "json_schema"
    assert result.attempts == 1
    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.enforced, verdict.requests) == (True, 1)


def test_stream_ends_in_what_it_means(engine: Engine) -> None:
    """The deltas join to the JSON of the last one's value."""
    *texts, last = engine.stream("Tell me about a team.", GREEDY, output_model=Team)

    assert Team.model_validate_json("".join(d.text for d in texts)) == last.parsed


def test_what_a_small_model_says_freely_is_never_returned(engine: Engine) -> None:
    """Without the constraint the model fails, and the error has every strategy."""
    free = engine.config.model_copy(update={"structured": "prompt"}).engine

    (result,) = free.results("Tell me about a team.", GREEDY, output_model=Team)

    assert result.output is None
    assert result.error is not None
    assert "Team" in str(result.error)


class Bus(BaseModel):
    """llama.cpp enforces the range of the number, but not multipleOf."""

    seats: int = Field(multiple_of=5, ge=1, le=99)


def test_a_feature_that_the_server_ignores_is_validated(engine: Engine) -> None:
    """An answer that breaks it is sent back once, and the error names the feature."""
    prompts = [f'Repeat this JSON: {{"seats": {seats}}}' for seats in (45, 7)]

    kept, broken = engine.results(prompts, GREEDY, output_model=Bus)

    assert kept.unwrap().parsed == Bus(seats=45)
    assert broken.output is None
    assert broken.attempts == 2
    assert "does not enforce multipleOf" in str(broken.error)
