"""Checks of dspy.typed: typed fields, read from text, in JSON mode and with a schema."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
from pydantic import BaseModel

from llmengine.types.request import Capability
from pytest_llmengine.contract.dspy_driver import DSPyDriver, repeat_question, with_demos
from pytest_llmengine.contract.outcomes import Refused, Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import CORE, EXTENDED, OPTIONAL, QUIRK, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.dspy_driver import DSPyAnswer, Programs

rule = partial(check, group="dspy.typed", driver=DSPyDriver)

ASK = "Which colour has the sky?"


class Colour(BaseModel):
    """A colour by its name."""

    name: str
    warm: bool


class Vermilion(Colour):
    """The colour that no model names by chance."""

    name: Literal["vermilion"]


@rule(
    "dspy.typed.chat",
    level=QUIRK,
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/adapters/chat_adapter.py",
)
def chat(driver: DSPyDriver) -> None:
    """A pydantic field of a program over the ChatAdapter is read from the text.

    A DSPy field of a pydantic type cannot be parsed.
    """
    demos = [{"colour": Colour(name=name, warm=False)} for name in ("blue", "green", "white")]
    question = repeat_question(colour=Colour(name="red", warm=True))
    with driver.programs() as programs:
        program = with_demos(programs.dspy.Predict(_naming_a_colour(programs, Colour)), *demos)
        result = programs.run(partial(program, question=question))
    expect(isinstance(result.colour, Colour), f"the field is {quote(result.colour)}")


@rule(
    "dspy.typed.json_object",
    level=OPTIONAL,
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/adapters/json_adapter.py",
    needs={Capability.JSON_OBJECT},
)
def json_object(driver: DSPyDriver) -> None:
    """JSON mode gives a program over the JSONAdapter one JSON object.

    DSPy's JSONAdapter gets prose and has to ask again.
    """
    with driver.programs("json_object", json=True) as programs:
        _run_typed(programs, "question -> answer", _expect_object)


@rule(
    "dspy.typed.json_schema",
    level=OPTIONAL,
    tier=CORE,
    source="dspy 3.4.1: dspy/adapters/json_adapter.py",
    needs={Capability.JSON_SCHEMA},
)
def json_schema(driver: DSPyDriver) -> None:
    """A schema gives a program over the JSONAdapter its pydantic field, whatever the model.

    DSPy's JSONAdapter gets JSON that does not fit the signature.
    """
    with driver.programs("json_schema", json=True) as programs:
        result = _run_typed(programs, _naming_a_colour(programs, Vermilion), _expect_schema)
        _expect_sent(programs.answers[0])
    expect(isinstance(result.colour, Vermilion), f"the field is {quote(result.colour)}")


def _run_typed(
    programs: Programs, signature: Any, expect_enforced: Callable[[DSPyAnswer], None]
) -> Any:
    """The program's result; if DSPy cannot read the text, check that the server enforced it."""
    try:
        return programs.run(lambda: programs.dspy.Predict(signature)(question=ASK))
    except Unmeasured:
        if programs.answers[0].cut:
            raise Unmeasured(
                f"the token cap cut it: {quote(programs.answers[0].texts[0])}"
            ) from None
        expect_enforced(programs.answers[0])
        raise


def _expect_object(answer: DSPyAnswer) -> None:
    text = quote(answer.texts[0])
    expect_effect(isinstance(_json(answer), dict), f"json_object was accepted, and it says {text}")


def _expect_schema(answer: DSPyAnswer) -> None:
    _expect_sent(answer)
    schema = {
        "type": "object",
        "properties": {"colour": Vermilion.model_json_schema()},
        "required": ["colour"],
    }
    fits = jsonschema.Draft202012Validator(schema).is_valid(_json(answer))
    expect_effect(fits, f"the schema was accepted, and the answer is {quote(answer.texts[0])}")


def _expect_sent(answer: DSPyAnswer) -> None:
    """Expect that a schema was sent: after a refusal, DSPy up to 3.3 silently uses JSON mode."""
    if not answer.schema:
        raise Refused("the schema was turned down, and DSPy fell back to JSON mode")


def _json(answer: DSPyAnswer) -> Any:
    try:
        return json.loads(answer.texts[0])
    except (ValueError, RecursionError):
        return None


def _naming_a_colour(programs: Programs, kind: type[Colour]) -> Any:
    dspy = programs.dspy
    fields = {"question": (str, dspy.InputField()), "colour": (kind, dspy.OutputField())}
    return dspy.Signature(fields)
