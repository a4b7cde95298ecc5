"""The options of a call, and how a caller's arguments become one ChatRequest per prompt."""

from __future__ import annotations

import reprlib
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypedDict

from llmengine.structured.schema import shape_of
from llmengine.structured.tools import as_tools
from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidRequestError, UnknownArgumentError
from llmengine.types.request import ChatRequest, ResponseFormat, to_messages
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.config.settings import EngineSettings
    from llmengine.structured.tools import Tool
    from llmengine.types.request import Prompt


_TWO_CONSTRAINTS = (
    "sampling parameter 'structured_outputs' is {given!r}, but the call also has an output_model "
    "or json_mode; only one of them can constrain an answer, so leave the other out"
)

_NO_PROMPTS = (
    "prompts is {given}; give a string, a list of {{'role': ..., 'content': ...}} messages, or a "
    "list of such prompts"
)
_NO_SAMPLING = SamplingParams()
_SAMPLING_FIELDS = frozenset(f.name for f in fields(SamplingParams))
_ENGINE_FIELDS = frozenset(
    {"model", "timeout", "max_retries", "api_key", "headers", "endpoint", "base_url", "backend"}
)
_HINTS = {
    "sampling": "the parameters are the second argument, 'sampling_params'",
    "params": "the parameters are the second argument, 'sampling_params'",
    "messages": "a list of messages is a prompt: give it as the first argument",
    "prompt": "the prompt or the prompts are the first argument",
    "system_prompt": "begin the messages with {'role': 'system', 'content': ...}",
    "response_format": "give an output_model, json_schema=... or json_mode=True",
    "response_model": "it is 'output_model' here",
    "schema": "give an output_model, or json_schema=...",
    "stream": "call stream() or astream() for the answer as it comes",
    "window": "only iter_results() and aiter_results() have it",
}


def _advice(unknown: Mapping[str, object]) -> str | None:
    """Advice for an argument that calls do not have: where it belongs."""
    if unknown.keys() <= _SAMPLING_FIELDS:
        written = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in unknown.items())
        return f"sampling parameters go into SamplingParams({written})"
    name = next(iter(unknown))
    if name in _ENGINE_FIELDS:
        return f"it belongs to the engine: EngineConfig({name}=...)"
    return _HINTS.get(name)


@checked_fields(UnknownArgumentError, _advice, what="a call")
@dataclass(frozen=True, slots=True)
class CallOptions:
    """The options of a call besides prompts and sampling; they hold for all its prompts.

    ``output_model`` is the type that answers are validated as: a pydantic model, a dataclass, a
    TypedDict, any other type that pydantic validates, or a JSON schema. ``tools`` are functions,
    pydantic models or schemas in OpenAI's format; ``tool_choice`` is in OpenAI's format.
    ``reasoning`` is a bool or an effort. ``extra_body`` takes precedence over that of the
    configuration. ``step_id`` names the caller's step in the log. ``json_mode`` asks for any JSON
    object, ``json_schema`` for one that fits a schema. Both use only the server's own constraint;
    the answer is not validated.
    """

    output_model: object = None
    tools: Sequence[Tool] = ()
    tool_choice: str | Mapping[str, object] | None = None
    reasoning: bool | str | None = None
    extra_body: Mapping[str, object] | None = None
    step_id: str | None = None
    json_mode: bool = False
    json_schema: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        _check("tools", self.tools, (Sequence, type(None)), "a list of tools")
        _check("tool_choice", self.tool_choice, (str, Mapping, type(None)), "a string or a mapping")
        _check("reasoning", self.reasoning, (bool, str, type(None)), "a bool or an effort")
        _check("extra_body", self.extra_body, (Mapping, type(None)), "a mapping")
        _check("json_schema", self.json_schema, (Mapping, type(None)), "a mapping")
        object.__setattr__(self, "tools", as_tools(self.tools) if self.tools else ())


def _check(name: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kinds):
        msg = f"option {name!r} is {reprlib.repr(value)}; it must be {wanted}"
        raise InvalidRequestError(msg)


NO_OPTIONS = CallOptions()


class Options(TypedDict, total=False):
    """The fields of CallOptions as keyword arguments."""

    output_model: object
    tools: Sequence[Tool]
    tool_choice: str | Mapping[str, object] | None
    reasoning: bool | str | None
    extra_body: Mapping[str, object] | None
    step_id: str | None
    json_mode: bool
    json_schema: Mapping[str, object] | None


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts; one string, or one list of messages, is one prompt."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, (Mapping, bytes)) or not isinstance(prompts, Iterable):
        raise InvalidRequestError(_NO_PROMPTS.format(given=reprlib.repr(prompts)))
    listed = list(prompts)
    if listed and all(isinstance(item, Mapping) for item in listed):
        return [listed]  # type: ignore[list-item]  # a conversation
    return listed  # type: ignore[return-value]  # checked prompt by prompt


def prompt_source(
    prompts: Iterable[Prompt] | AsyncIterable[Prompt],
) -> Iterable[Prompt] | AsyncIterable[Prompt]:
    """Prompts that are read one by one; one prompt or a list is treated as in `as_prompts`."""
    lazy = isinstance(prompts, (Iterable, AsyncIterable))
    if lazy and not isinstance(prompts, (str, bytes, Mapping, list, tuple)):
        return prompts
    return as_prompts(prompts)  # type: ignore[arg-type]  # checked there


def as_window(window: int | None, default: int) -> int:
    """The validated window: how many calls may be started and not yet read."""
    if window is None:
        return default
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        msg = f"window is {window!r}; it must be a whole number from 1, or None for the default"
        raise InvalidRequestError(msg)
    return window


def as_sampling(params: object, count: int) -> list[SamplingParams]:
    """One SamplingParams per prompt, from one for all prompts or from a list with one for each."""
    if isinstance(params, Sequence) and not isinstance(params, str):
        if len(params) != count:
            msg = (
                f"{len(params)} sampling_params for {count} prompts; "
                "give one for all, or a list with one per prompt"
            )
            raise InvalidRequestError(msg)
        return [SamplingParams.of(p) for p in params]
    return [_NO_SAMPLING if params is None else SamplingParams.of(params)] * count


def build_request(  # noqa: PLR0913 - the one place where all are needed
    config: EngineSettings,
    prompt: Prompt,
    sampling: SamplingParams,
    options: CallOptions,
    *,
    index: int = 0,
    stream: bool = False,
) -> ChatRequest:
    """The request for one prompt; raises InvalidRequestError, which names the prompt's position."""
    extra = {**config.extra_body, **(options.extra_body or {})}
    sampling = config.sampling.merged(sampling)
    if sampling.structured_outputs and (options.output_model is not None or options.json_mode):
        raise InvalidRequestError(_TWO_CONSTRAINTS.format(given=sampling.structured_outputs))
    return ChatRequest(
        model=config.model,
        prompt=prompt,
        messages=to_messages(prompt, index=index),
        sampling=sampling,
        stream=stream,
        response_format=_format(options),
        output_model=options.output_model,
        tools=options.tools,  # type: ignore[arg-type]  # as_tools made them mappings
        tool_choice=options.tool_choice,
        reasoning=options.reasoning,
        extra_body=extra,
    )


def _format(options: CallOptions) -> ResponseFormat | None:
    if options.output_model is not None:
        shape = shape_of(options.output_model)
        return ResponseFormat(schema=shape.schema, name=shape.name)
    if options.json_schema is not None:
        return ResponseFormat(schema=options.json_schema)
    return ResponseFormat() if options.json_mode else None
