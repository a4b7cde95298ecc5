"""Validation of requests as a table of named rules, of which a behaviour can leave out any.

A rule has the id of the contract's check for it, if there is one. Without the rule the server
answers as if the request were valid, so all code that reads a body must accept any JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.rules.base import ModelLimits, Problem, Rule, context_problem
from llmengine.mock.rules.chat import CHAT_CONTEXT, CHAT_RULES, STRUCTURED_RULES, TOOL_RULES
from llmengine.mock.rules.messages import COUNT_RULES, MESSAGE_RULES
from llmengine.mock.rules.openai import COMPLETION_RULES, EMBEDDING_RULES, RESPONSE_RULES
from llmengine.mock.rules.responses import RESPONSE_FIELD_RULES
from llmengine.mock.rules.servers import (
    BATCH_RULES,
    CONSTRAINT_RULES,
    DETOKENIZE_RULES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS,
    OLLAMA_GENERATE,
    OLLAMA_PULL,
    OLLAMA_SHOW,
    TOKENIZE_RULES,
)
from llmengine.mock.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmengine.mock.json_fields import Body

# The rules of each route that takes a body, in the order in which they are applied.
BY_ROUTE: dict[str, tuple[Rule, ...]] = {
    "/v1/chat/completions": (
        *CHAT_RULES,
        *TOOL_RULES,
        *STRUCTURED_RULES,
        *CONSTRAINT_RULES,
        CHAT_CONTEXT,
    ),
    "/v1/chat/completions/batch": BATCH_RULES,
    "/v1/completions": COMPLETION_RULES,
    "/v1/embeddings": EMBEDDING_RULES,
    "/v1/responses": (*RESPONSE_RULES, *RESPONSE_FIELD_RULES),
    "/v1/responses/input_tokens": RESPONSE_RULES,
    "/v1/messages": MESSAGE_RULES,
    "/v1/messages/count_tokens": COUNT_RULES,
    "/tokenize": TOKENIZE_RULES,
    "/detokenize": DETOKENIZE_RULES,
    "/api/chat": OLLAMA_CHAT,
    "/api/generate": OLLAMA_GENERATE,
    "/api/embed": OLLAMA_EMBED,
    "/api/embeddings": OLLAMA_EMBEDDINGS,
    "/api/show": OLLAMA_SHOW,
    "/api/pull": OLLAMA_PULL,
}

# Rules that are not about fields of a body; the application and the routes apply them.
OTHER_RULES = (
    "auth.missing",
    "auth.bad",
    "auth.models_protected",
    "err.not_found_path",
    "err.method",
    "err.wrong_content_type",
    "err.malformed_json",
    "err.nonobject_body",
    "messages.version",
    "models.retrieve.unknown",
    "net.disconnect.stream",
    "net.disconnect.whole",
    "resp.get.unknown",
    "resp.previous_response_id.unknown",
    "resp.conversation.unknown",
)


def names() -> list[str]:
    """The names of all rules, in alphabetical order."""
    return sorted({r.name for rules in BY_ROUTE.values() for r in rules} | set(OTHER_RULES))


def enforce(route: str, body: Body, limits: ModelLimits, without: Collection[str] = ()) -> None:
    """Raise ApiError for the first rule of the route that the body breaks, except `without`."""
    for rule in BY_ROUTE.get(route, ()):
        if rule.name in without:
            continue
        if problem := rule.find(body, limits):
            raise ApiError(
                problem.message, status=problem.status, param=problem.param, code=problem.code
            )


__all__ = [
    "BY_ROUTE",
    "OTHER_RULES",
    "ModelLimits",
    "Problem",
    "Rule",
    "context_problem",
    "enforce",
    "names",
]
