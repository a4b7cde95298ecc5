"""GET /v1/models, and the paths by which clients see that a server is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api


def test_list_has_the_served_model(reference: Api) -> None:
    """The list has OpenAI's shape and one model."""
    body = reference.http.get("/v1/models").json()
    (model,) = body["data"]

    assert body.keys() == {"object", "data"}
    assert body["object"] == "list"
    assert model.keys() == {"id", "object", "created", "owned_by"}
    assert (model["id"], model["object"]) == ("mock", "model")


@pytest.mark.parametrize("name", ["mock", "org/model-1.5:tag"])
def test_listed_model_can_be_retrieved_and_used(start: Callable[..., Api], name: str) -> None:
    """A listed id works on its own route, with slashes too, and in a request."""
    api = start(model=name)
    listed = api.http.get("/v1/models").json()["data"][0]

    assert api.http.get(f"/v1/models/{name}").json() == listed
    assert api.chat().json()["model"] == name


def test_several_models(start: Callable[..., Api]) -> None:
    """Each API lists them all, each answers under its name, and another one is unknown."""
    api = start(model="small", models=["large", "embed"])
    openai = [model["id"] for model in api.http.get("/v1/models").json()["data"]]
    listed = [model["name"] for model in api.http.get("/api/tags").json()["models"]]
    running = [model["name"] for model in api.http.get("/api/ps").json()["models"]]

    assert openai == ["small", "large", "embed"]
    assert listed == running == ["small:latest", "large:latest", "embed:latest"]
    assert [api.chat(model=name).json()["model"] for name in openai] == openai
    assert api.post("/api/show", model="large").json()["modelfile"] == "FROM large:latest\n"
    assert api.chat(model="other").status_code == 404
    assert api.server.model == "small"


@pytest.mark.parametrize("path", ["/health", "/version"])
def test_probes_answer_without_a_key(start: Callable[..., Api], path: str) -> None:
    """A probe needs no key."""
    assert start(api_key="secret-key").http.get(path).status_code == 200
