"""Steps read only what comes before them; a typo is found before anything is sent."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, RootModel

from llmengine import ConfigError
from llmengine.pipeline import Chain, Step


class Finding(BaseModel):
    """What a first step finds."""

    quote: str


class Open(BaseModel, extra="allow"):
    """A model whose fields only an answer can tell."""


def chain(prompt: str, model: type[BaseModel] | None = Finding) -> Chain:
    """A first step with that output model, and one after it with that prompt."""
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
    """Earlier steps, and the fields that their models have or may have."""
    assert len(chain(prompt, model).steps) == 2


@pytest.mark.parametrize(
    ("prompt", "model", "said"),
    [
        ("{{ steps.fnd.quote }}", Finding, "steps.fnd is not a step before this one; those before"),
        ("{{ steps.use }}", Finding, "steps.use is not a step before this one"),
        ("{{ steps.find.qote }}", Finding, "steps.find has no 'qote'; it has quote"),
        ("{% if 1 %}{{ steps['find']['x'] }}{% endif %}", Finding, "steps.find has no 'x'"),
        ("{{ steps.find.quote }}", None, "steps.find is a text without fields"),
    ],
)
def test_what_may_not_be_read(prompt: str, model: type[BaseModel] | None, said: str) -> None:
    """The error names the step, the field and what there is."""
    with pytest.raises(ConfigError, match="step 'use': user_prompt: ") as caught:
        chain(prompt, model)
    assert said in str(caught.value)


def test_ids_differ() -> None:
    """Two steps cannot write one file."""
    step = Step(id="a", engine="e", user_prompt="x")
    with pytest.raises(ConfigError, match="step 'a': id: an earlier step has the same id"):
        Chain("c", (step, step))


def test_a_chain_has_steps() -> None:
    """A chain without steps asks nothing."""
    with pytest.raises(ConfigError, match="there are none"):
        Chain("c", ())
