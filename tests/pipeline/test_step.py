"""The prompts of a step: templates in a sandbox, in which a missing name is an error."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from llmengine import ConfigError, InvalidRequestError
from llmengine.pipeline import Step


def filled(template: str, fields: dict[str, object], outputs: dict[str, object]) -> str:
    """The user prompt of a step with that template."""
    step = Step(id="s", engine="e", user_prompt=template)
    return step.messages("r", fields, outputs)[-1]["content"]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ text }}", "a < b & {{ text }}"),
        ("{{ steps.first.items }}", '["x", "ü"]'),
        ("{{ steps['first']['keys'] }}", "null"),
        ("{{ steps.first }}", '{"items": ["x", "ü"], "keys": null}'),
        ("{{ steps.first.items | tojson }}", '["x", "ü"]'),
        ("{% for x in steps.first.items %}\n- {{ x }}\n{% endfor %}", "- x\n- ü\n"),
        ("{{ steps.other | default('none') }}", "none"),
        ("{% if text is defined %}yes{% endif %}", "yes"),
        ("{{ steps.flag }} {{ 3 }}", "true 3"),
    ],
)
def test_templates(template: str, prompt: str) -> None:
    """Text is inserted unchanged, data as JSON, and the text of a field is never a template."""
    fields = {"text": "a < b & {{ text }}"}
    outputs = {"first": {"items": ["x", "ü"], "keys": None}, "flag": True}
    assert filled(template, fields, outputs) == prompt


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ txt }}", "'txt' is undefined; the names are text, steps"),
        ("{{ steps.first.sumary }}", "there is no 'sumary'; the keys are summary"),
        ("{{ steps.first.values }}", "there is no 'values'; the keys are summary"),
        ("{{ range }}", "'range' is undefined"),
        ("{{ text.__class__.__mro__ }}", "unsafe"),
        ("{{ text + 1 }}", "can only concatenate str"),
        ("{% include 'other' %}", "no loader"),
        ("{{ steps.first.update({}) }}", "there is no 'update'"),
    ],
)
def test_missing_names_are_errors(template: str, message: str) -> None:
    """The error names the step, the field and the record."""
    with pytest.raises(InvalidRequestError) as caught:
        filled(template, {"text": "t"}, {"first": {"summary": "s"}})
    assert str(caught.value).startswith("step 's': user_prompt: record 'r': ")
    assert message in str(caught.value)


class Patient(BaseModel):
    """An input model."""

    age: int
    ward: str = "unknown"
    label: str = Field("none", alias="class")


def test_the_input_model_gives_types_and_defaults() -> None:
    """Templates see the validated values, and the fields that the model does not have."""
    step = Step(
        id="s",
        engine="e",
        user_prompt="{{ age + 1 }} {{ ward }} {{ name }} {{ class }}",
        input_model=Patient,
    )
    (message,) = step.messages("r", {"age": "41", "name": "X"}, {})
    assert message == {"role": "user", "content": "42 unknown X none"}


def test_a_record_that_is_not_the_input_model() -> None:
    """The error names step, record, model and field."""
    step = Step(id="s", engine="e", user_prompt="{{ age }}", input_model=Patient)
    with pytest.raises(InvalidRequestError) as caught:
        step.messages("r", {"age": "old"}, {})
    assert str(caught.value).startswith(
        "step 's': input_model: record 'r' is not a valid Patient: age: "
        "Input should be a valid integer"
    )


def test_an_input_model_may_ask_for_earlier_answers() -> None:
    """A field ``steps`` of the model gets the answers of earlier steps."""

    class Strict(BaseModel, extra="forbid"):
        text: str
        steps: dict[str, str]

    step = Step(id="s", engine="e", user_prompt="{{ steps.a }}", input_model=Strict)
    assert step.messages("r", {"text": "t"}, {"a": "A"})[0]["content"] == "A"
    with pytest.raises(InvalidRequestError, match=r"steps\.a: Input should be a valid string"):
        step.messages("r", {"text": "t"}, {"a": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "two words"}, "id: give a name of letters"),
        ({"id": "outputs"}, "other than inputs and outputs"),
        ({"user_prompt": "a\n{{ x"}, "user_prompt: line 2: "),
        ({"system_prompt": "{% if %}"}, "system_prompt: line 1: "),
        ({"user_prompt": "{{ x | nofilter }}"}, "user_prompt: line 1: No filter named 'nofilter'"),
        ({"output_model": dict}, "output_model: <class 'dict'> is not a pydantic model class"),
        ({"input_model": "A"}, "input_model: 'A' is not a pydantic model class or a JSON schema"),
        (
            {"output_model": {"type": "str"}},
            "output_model: type: 'str' is not a type; the types are",
        ),
    ],
)
def test_a_wrong_step(change: dict[str, object], message: str) -> None:
    """A step that can never run is an error when it is created."""
    fields: dict[str, object] = {"id": "s", "engine": "e", "user_prompt": "x"} | change
    with pytest.raises(ConfigError, match=f"step '{fields['id']}': ") as caught:
        Step(**fields)
    assert message in str(caught.value)
