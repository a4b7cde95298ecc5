"""GET /v1/models: the one model that is served, and those that were pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.errors import ApiError
from llmengine.mock.replies import Whole

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service


def list_models(body: JSON, service: Service) -> Answer:
    """List the models."""
    names = [service.model, *sorted(service.pulled)]
    return Whole({"object": "list", "data": [_model(name, service) for name in names]})


def retrieve_model(body: JSON, service: Service, name: str) -> Answer:
    """Describe one model by its id."""
    known = name == service.model or name in service.pulled
    if not known and "models.retrieve.unknown" not in service.behaviour.without_rules:
        message = f"The model '{name}' does not exist or you do not have access to it."
        raise ApiError(message, status=404, param="model", code="model_not_found")
    return Whole(_model(name, service))


def _model(name: str, service: Service) -> JSON:
    return {"id": name, "object": "model", "created": service.started, "owned_by": "llmengine"}
