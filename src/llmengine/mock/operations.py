"""Every route, and what answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.mock import models, ollama, ollama_models, ollama_pull, responses, rules, vllm
from llmengine.mock.chat import chat_completion
from llmengine.mock.completions import text_completion
from llmengine.mock.embeddings import embeddings
from llmengine.mock.errors import ApiError
from llmengine.mock.replies import Answer, Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, Behaviour
    from llmengine.mock.service import Service


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; ``run`` gets the body, the service and the path's parameters."""

    method: str
    path: str
    run: Callable[..., Answer]

    @property
    def name(self) -> str:
        """What ``Behaviour.disabled_routes`` calls it; the path alone means every method."""
        return f"{self.method} {self.path}"


def _health(body: JSON, service: Service) -> Answer:
    return Whole({"status": "ok"})


def _version(body: JSON, service: Service) -> Answer:
    return Whole({"version": "mock"})


OPERATIONS = (
    Operation("POST", "/v1/chat/completions", chat_completion),
    Operation("POST", "/v1/chat/completions/batch", vllm.chat_batch),
    Operation("POST", "/tokenize", vllm.tokenize),
    Operation("POST", "/detokenize", vllm.detokenize),
    Operation("POST", "/v1/completions", text_completion),
    Operation("POST", "/v1/embeddings", embeddings),
    Operation("POST", "/v1/responses", responses.create_response),
    Operation("GET", "/v1/responses/{response_id}", responses.retrieve_response),
    Operation("DELETE", "/v1/responses/{response_id}", responses.delete_response),
    Operation("GET", "/v1/models", models.list_models),
    Operation("GET", "/v1/models/{name:path}", models.retrieve_model),
    Operation("GET", "/health", _health),
    Operation("GET", "/version", _version),
    Operation("GET", "/", ollama_models.root),
    Operation("POST", "/api/chat", ollama.chat),
    Operation("POST", "/api/generate", ollama.generate),
    Operation("POST", "/api/show", ollama_models.show),
    Operation("POST", "/api/pull", ollama_pull.pull),
    Operation("GET", "/api/tags", ollama_models.tags),
    Operation("GET", "/api/ps", ollama_models.running),
    Operation("GET", "/api/version", ollama_models.version),
)


def check_names(behaviour: Behaviour) -> None:
    """Raise ValueError for a rule or a route that a behaviour names and that is not there."""
    if unknown := behaviour.without_rules - set(rules.names()):
        listed = ", ".join(sorted(unknown))
        raise ValueError(f"no rule is called {listed}; llmengine.mock.rules.names() lists them")
    routes = {n for o in OPERATIONS for n in (o.path, o.name)}
    if unknown := behaviour.disabled_routes - routes:
        listed = ", ".join(sorted(unknown))
        raise ValueError(f"no route is called {listed}; there are {', '.join(sorted(routes))}")


def _no_path(body: JSON, service: Service) -> Answer:
    if "err.not_found_path" in service.behaviour.without_rules:
        return Whole({})
    raise ApiError("Unknown request URL. Please check the path.", status=404, code="unknown_url")


def _no_method(body: JSON, service: Service, allow: str) -> Answer:
    if "err.method" in service.behaviour.without_rules:
        return Whole({})
    message = f"Method not allowed on this path; it takes {allow}."
    raise ApiError(message, status=405, code="method_not_supported", headers={"allow": allow})


NO_PATH = Operation("*", "*", _no_path)
NO_METHOD = Operation("*", "*", _no_method)
