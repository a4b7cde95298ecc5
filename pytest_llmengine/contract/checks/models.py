"""Checks of models: the list of models and their descriptions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from pytest_llmengine.contract.assertions import full_text, missing, objects, pick
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import (
    CORE,
    EXPECTED,
    EXTENDED,
    QUIRK,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="models")

SPEC = "openai-openapi: ListModelsResponse, Model"


@rule(
    "models.list.shape",
    level=REQUIRED,
    tier=SMOKE,
    source="openai-openapi: ListModelsResponse; openai-openapi: Model",
)
def list_shape(target: Target) -> None:
    """The list of models is an object "list", its data models with id, created and owned_by.

    SDKs cannot list the models, and tools that offer a choice of models show nothing.
    """
    body = target.get("/models").success()
    name = pick(body, str, "object")
    expect(name == "list", f"object is {name!r}")
    models = objects(body, "data")
    expect(models, "the list is empty, yet a model is served")
    for model in models:
        _expect_model(model)


@rule("models.retrieve", level=REQUIRED, tier=CORE, source="openai-openapi: GET /models/{model}")
def retrieve(target: Target) -> None:
    """A listed model can be fetched by its id.

    Clients that check a model before they use it say that it does not exist.
    """
    name = _listed(target)
    model = _fetch(target, name).success()
    _expect_model(model)
    expect(model["id"] == name, f"asked for {name!r}, got {model['id']!r}")


@rule(
    "models.retrieve.unknown",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: GET /models/{model}; OpenAI docs: guides/error-codes",
)
def retrieve_unknown(target: Target) -> None:
    """A model that is not listed is answered with 404.

    A misspelt model seems to exist.
    """
    if (status := _fetch(target, _listed(target)).status) != 200:
        raise Unmeasured(
            f"a listed model is answered with {status}, so an unknown one says nothing"
        )
    reply = _fetch(target, "no-such-model")
    expect_effect(not reply.ok, f"an unknown model was found: {quote(reply.text)}")
    expect(reply.status == 404, f"an unknown model: {reply.status}: {quote(reply.text)}")
    expect(reply.error_message, f"a 404 without a message: {quote(reply.text)}")


@rule(
    "models.id_usable",
    level=QUIRK,
    tier=EXTENDED,
    source="openai-openapi: Model.id: can be referenced in the API endpoints",
)
def id_usable(target: Target) -> None:
    """A listed id is a model that answers.

    A model that a user picks from the list cannot be used.
    """
    full_text(target.chat(model=_listed(target), max_tokens=4).success())


def _listed(target: Target) -> str:
    """The target's model if it is listed, or else the first listed model."""
    ids = [pick(m, str, "id") for m in objects(target.get("/models").success(), "data")]
    expect(ids, "the list of models is empty")
    return target.model if target.model in ids else ids[0]


def _fetch(target: Target, name: str) -> Reply:
    return target.get(f"/models/{url_quote(name, safe='')}")


def _expect_model(model: dict[str, Any]) -> None:
    lost = missing(model, "id", "object", "created", "owned_by")
    expect(not lost, f"missing in a model: {', '.join(lost)}")
    expect(model["object"] == "model", f"the object of a model is {quote(model['object'])}")
    expect(pick(model, str, "id"), "the id of a model is empty")
    pick(model, int, "created")
    pick(model, str, "owned_by")
