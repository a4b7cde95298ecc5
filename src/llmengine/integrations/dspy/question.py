"""From the keyword arguments of DSPy's language models to one call of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import InvalidRequestError
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.engine.options import Options
    from llmengine.types.request import Prompt

_SAMPLING = frozenset(field.name for field in fields(SamplingParams)) - {"logprobs"}
_OPTIONS = frozenset({"output_model", "tools", "tool_choice", "extra_body"})
# OpenAI's fields that no engine has a name for: they go into the body as they are.
_BODY = frozenset({"metadata", "parallel_tool_calls", "service_tier", "store", "user"})
# What DSPy keeps its answers by; no server is told.
_DSPYS_OWN = frozenset({"cache", "model", "model_type", "num_generations", "rollout_id"})
_RENAMED = {"max_completion_tokens": "max_tokens", "reasoning_effort": "reasoning"}


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt with all that a call of the engine takes; ``count`` is how many answers."""

    prompt: Prompt
    sampling: SamplingParams
    options: Options
    count: int = 1


def read_question(prompt: Prompt, arguments: Mapping[str, Any]) -> Question:
    """The call that a language model's keyword arguments, in OpenAI's spelling, ask for.

    Raises InvalidRequestError that names an argument that has no meaning here.
    """
    sampling: dict[str, Any] = {}
    options: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for name, value in arguments.items():
        place = _RENAMED.get(name, name)
        if value is None or place in _DSPYS_OWN:
            continue
        if place in _SAMPLING:
            sampling[place] = value
        elif place in _OPTIONS or place == "reasoning":
            options[place] = value
        elif place in _BODY:
            body[place] = value
        elif place not in {"response_format", "logprobs", "top_logprobs"}:
            raise InvalidRequestError(
                f"{name!r} is no parameter of an engine's language model; what a server calls so "
                f"goes into extra_body={{{name!r}: ...}}"
            )
    sampling |= _logprobs(arguments)
    options |= _format(arguments.get("response_format"))
    if body:
        options["extra_body"] = body | dict(options.get("extra_body") or {})
    count = sampling.get("n") or 1
    return Question(prompt, SamplingParams.of(sampling), options, count)  # type: ignore[arg-type]  # by name


def _logprobs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Chat completions' pair of fields, or the number of alternatives alone, as one number."""
    asked, top = arguments.get("logprobs"), arguments.get("top_logprobs")
    if asked is None or asked is False:
        return {}
    return {"logprobs": top or 0 if asked is True else asked}


def _format(wanted: Any) -> dict[str, Any]:
    if wanted is None:
        return {}
    if isinstance(wanted, type):
        return {"output_model": wanted}
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_object":
        return {"json_mode": True}
    if kind == "json_schema":
        return {"output_model": wanted.get("json_schema", wanted)["schema"]}
    if kind == "text":
        return {}
    raise InvalidRequestError(
        f"response_format is {wanted!r}; give a pydantic model, {{'type': 'json_object'}}, or "
        "{'type': 'json_schema', 'json_schema': {'name': ..., 'schema': ...}}"
    )
