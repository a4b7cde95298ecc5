"""Steps read only earlier steps; a wrong name is an error before anything is sent."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, RootModel

from llmengine import ConfigError
from llmengine.pipeline import Chain, Step


class Finding(BaseModel):
    """The answer of the first step."""

    quote: str


class Open(BaseModel, extra="allow"):
    """A model whose fields depend on the answer."""


def chain(prompt: str, model: type[BaseModel] | None = Finding) -> Chain:
    """A first step with that output model, and a second one with that prompt."""
    first = Step(id="find", engine="e", user_prompt="x", output_model=model)
    return Chain("c", (first, Step(id="use", engine="e", user_prompt=prompt)))


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        ("{{ steps.find.quote }}", Finding),
        ("{{ steps['find'].quote.upper() }}", Finding),
        ("{{ steps.find }}", None),
        ("{{ steps.find.anything }}", Open),
        ("{{ steps.find[0].anything }}", RootModel[list[dict[str, str]]]),
        ("{% for name in steps %}{{ steps[name] }}{% endfor %}", Finding),
    ],
)
def test_what_may_be_read(prompt: str, model: type[BaseModel] | None) -> None:
    """A template may read earlier steps, and the fields that their models have or may have."""
    assert len(chain(prompt, model).steps) == 2


@pytest.mark.parametrize(
    ("prompt", "model", "message"),
    [
        ("{{ steps.fnd.quote }}", Finding, "steps.fnd is not a step before this one; those before"),
        ("{{ steps.use }}", Finding, "steps.use is not a step before this one"),
        ("{{ steps.find.qote }}", Finding, "steps.find has no 'qote'; it has quote"),
        ("{% if 1 %}{{ steps['find']['x'] }}{% endif %}", Finding, "steps.find has no 'x'"),
        ("{{ steps.find.quote }}", None, "steps.find is a text without fields"),
    ],
)
def test_what_may_not_be_read(prompt: str, model: type[BaseModel] | None, message: str) -> None:
    """The error names the step, the field and the names that exist."""
    with pytest.raises(ConfigError, match="step 'use': user_prompt: ") as caught:
        chain(prompt, model)
    assert message in str(caught.value)


def test_ids_differ() -> None:
    """Two steps cannot write to the same file."""
    step = Step(id="a", engine="e", user_prompt="x")
    with pytest.raises(ConfigError, match="step 'a': id: an earlier step has the same id"):
        Chain("c", (step, step))


def test_a_chain_has_steps() -> None:
    """A chain without steps is an error."""
    with pytest.raises(ConfigError, match="there are none"):
        Chain("c", ())
