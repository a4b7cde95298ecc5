"""Typed answers: the schema reaches the server on every DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from llmengine.integrations.dspy import to_lm
from llmengine.mock import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig
    from llmengine.mock import MockServer


class Ticket(BaseModel):
    """What support has to know."""

    category: Literal["billing", "bug"]
    urgent: bool


@pytest.fixture
def triage(dspy: Any) -> Any:
    """A signature with one typed field."""

    class Triage(dspy.Signature):  # type: ignore[misc,name-defined]  # dspy has no types
        """Sort a support ticket."""

        text: str = dspy.InputField()
        ticket: Ticket = dspy.OutputField()

    return Triage


def _format(server: MockServer) -> Any:
    return server.calls[-1].json.get("response_format")


def test_the_same_program_is_typed_on_every_dspy(
    dspy: Any, triage: Any, config: EngineConfig, server: MockServer
) -> None:
    """Without a script the mock makes a value for the schema, and DSPy parses it."""
    with dspy.settings.context(lm=to_lm(config)):
        ticket = _predict(dspy)(triage)(text="I was charged twice.").ticket

    assert isinstance(ticket, Ticket)
    schema = _format(server)["json_schema"]["schema"]
    assert "category" in str(schema)


def _predict(dspy: Any) -> Any:
    """What 3.x calls Predict is TypedPredictor on 2.4."""
    return getattr(dspy, "TypedPredictor", dspy.Predict)


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter"])
def test_an_adapter_parses_the_answer(
    modern: Any, triage: Any, config: EngineConfig, server: MockServer, adapter: str
) -> None:
    """Each in its own format, with one request."""
    ticket = '{"category": "bug", "urgent": true}'
    said = {
        "ChatAdapter": f"[[ ## ticket ## ]]\n{ticket}\n\n[[ ## completed ## ]]",
        "JSONAdapter": f'{{"ticket": {ticket}}}',
    }
    server.play(Script(replies=[said[adapter]]))

    with modern.context(lm=to_lm(config), adapter=getattr(modern, adapter)()):
        prediction = modern.Predict(triage)(text="It crashes.")

    assert prediction.ticket == Ticket(category="bug", urgent=True)
    assert len(server.calls) == 1


def test_a_schema_that_is_ignored_is_asked_for_otherwise(
    modern: Any, triage: Any, config: EngineConfig, server: MockServer
) -> None:
    """If a server refuses schemas, the engine uses JSON mode with the schema in the prompt."""
    fits = '{"ticket": {"category": "bug", "urgent": true}}'
    server.play(Script(replies=["It is a bug.", f"```json\n{fits}\n```"]))

    with modern.context(lm=to_lm(config), adapter=modern.JSONAdapter()):
        prediction = modern.Predict(triage)(text="It crashes.")

    assert prediction.ticket == Ticket(category="bug", urgent=True)
    formats = [call.json["response_format"]["type"] for call in server.calls]
    assert formats == ["json_schema", "json_object"]


def test_both_attempts_are_in_the_usage(
    modern: Any, triage: Any, config: EngineConfig, server: MockServer
) -> None:
    """DSPy's tracker has the tokens of all attempts."""
    fits = '{"ticket": {"category": "bug", "urgent": true}}'
    lm = to_lm(config)
    server.play(Script(replies=["It is a bug.", fits, fits]))

    with modern.context(lm=lm, adapter=modern.JSONAdapter()):
        modern.Predict(triage)(text="It crashes.")
        modern.Predict(triage)(text="It crashes.")

    climbed, plain = (entry["usage"]["total_tokens"] for entry in lm.history)
    assert climbed > 2 * plain


@pytest.mark.parametrize("extra", ["", ", note: str"], ids=["alone", "before another field"])
def test_2_4_constrains_the_last_field_only(
    legacy: Any, config: EngineConfig, server: MockServer, extra: str
) -> None:
    """An answer that continues with other fields is not a JSON object, so it has no schema."""
    inner = '{"value": ["a"]}'
    server.play(Script(replies=[f"{inner}\nNote: n" if extra else inner]))
    signature = f"text: str -> names: list[str]{extra}"

    with legacy.settings.context(lm=to_lm(config)):
        prediction = legacy.TypedPredictor(signature)(text="Anyone?")

    assert prediction.names == ["a"]
    assert (_format(server) is None) == bool(extra)


def test_2_4_leaves_plain_fields_free(
    legacy: Any, config: EngineConfig, server: MockServer, answering: Callable[..., None]
) -> None:
    """A prompt without a schema is sent without one."""
    answering({"answer": "Paris"})

    with legacy.settings.context(lm=to_lm(config)):
        legacy.Predict("question -> answer")(question="Where? JSON Schema: {}")

    assert _format(server) is None


def test_2_4_can_be_given_the_schema(legacy: Any, config: EngineConfig, server: MockServer) -> None:
    """Every answer of the model fits its ``output_model``."""
    assert legacy

    (text,) = to_lm(config, output_model=Ticket)("Sort this.")

    assert Ticket.model_validate_json(text)
    assert _format(server)["json_schema"]["name"] == "Ticket"


def test_2_4_sends_the_schema_on_its_second_try(
    legacy: Any, triage: Any, config: EngineConfig, server: MockServer
) -> None:
    """TypedPredictor moves the schema in its second prompt, where it is found too."""
    server.play(Script(replies=["no"] * 3))  # all of the engine's ladder

    with legacy.settings.context(lm=to_lm(config)):
        ticket = legacy.TypedPredictor(triage)(text="It crashes.").ticket

    assert isinstance(ticket, Ticket)
    assert _format(server)["type"] == "json_schema"
