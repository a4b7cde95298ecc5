"""What Ollama takes and ignores without a word, refused by name before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import InvalidRequestError
from llmengine.types.sampling import is_neutral

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import ChatRequest

_LEAVE_OUT = "leave it out"
_EVERYWHERE = {
    "n": "send the prompt several times",
    "logit_bias": _LEAVE_OUT,
    "tool_choice": "leave it out, or give it only the tool that it is to call",
    "parallel_tool_calls": _LEAVE_OUT,
}
_NATIVE_ONLY = "Ollama's /api/chat has it: give the engine its endpoint without /v1"
_AN_OPTION = "put it into options"

IN_V1: Mapping[str, str] = {
    **_EVERYWHERE,
    "max_completion_tokens": "it is max_tokens there",
    **dict.fromkeys(("options", "keep_alive", "think", "format", "num_ctx"), _NATIVE_ONLY),
}
"""Fields that Ollama's ``/v1`` ignores, with what to do instead."""

IN_NATIVE: Mapping[str, str] = {
    **_EVERYWHERE,
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "it is num_predict in options"),
    **dict.fromkeys(("num_ctx", "num_predict", "temperature", "top_p", "seed"), _AN_OPTION),
    "response_format": "it is format there",
    "reasoning_effort": "it is think there",
}
"""Fields that Ollama's ``/api/chat`` ignores, with what to do instead."""

_SAMPLING = ("n", "logit_bias")
_DEFAULTS = [("tool_choice", "auto"), ("parallel_tool_calls", True)]


def refuse_ignored(request: ChatRequest, ignored: Mapping[str, str], route: str) -> None:
    """Raise InvalidRequestError for a field of the request that the route would ignore.

    A value that asks for what Ollama does anyway is taken.
    """
    sampling = request.sampling.given()
    asked = {name: sampling[name] for name in _SAMPLING if name in sampling}
    for name, value in {**request.extra_body, **asked}.items():
        as_ever = value is None or (name, value) in _DEFAULTS or is_neutral(name, value)
        if name in ignored and not as_ever:
            raise InvalidRequestError(_message(name, value, route, ignored[name]))


def offers_tools(request: ChatRequest, route: str) -> bool:
    """Whether to send the tools; not sending them is how ``tool_choice: none`` is said.

    Raises InvalidRequestError for a tool that must be called: the route has no field for that.
    """
    choice = request.tool_choice
    if choice not in (None, "auto", "none"):
        raise InvalidRequestError(
            _message("tool_choice", choice, route, _EVERYWHERE["tool_choice"])
        )
    return bool(request.tools) and choice != "none"


def _message(name: str, value: object, route: str, advice: str) -> str:
    return f"{name} is {value!r}, but {route} takes {name} and ignores it; {advice}"
