"""From what a caller gives to one ChatRequest a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from llmengine.structured.shape import shape_of
from llmengine.structured.tools import as_tools
from llmengine.values.errors import InvalidRequestError
from llmengine.values.messages import to_messages
from llmengine.values.request import ChatRequest, ResponseFormat
from llmengine.values.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.config.engine_config import EngineConfig
    from llmengine.structured.tools import Tool
    from llmengine.values.messages import Prompt


_TWO_SHAPES = (
    "sampling parameter 'structured_outputs' is {given!r} beside an output_model or json_mode: an "
    "answer can be held to one of them; leave the other out"
)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call may ask for beyond its prompts and sampling, the same for all its prompts.

    ``output_model`` is what the answers are validated as: a pydantic model, a dataclass, a
    TypedDict, any other type that pydantic validates, or a JSON schema. ``tools`` are functions,
    pydantic models or schemas in OpenAI's spelling, ``tool_choice`` is in OpenAI's spelling.
    ``reasoning`` is a bool or an effort. ``extra_body`` goes over the configuration's.
    ``step_id`` names the caller's step in the log. ``json_mode`` asks for any JSON object,
    ``json_schema`` for one that fits a schema, by the server's own constraint; the answer is not
    held against anything.
    """

    output_model: Any = None
    tools: Sequence[Tool] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    reasoning: bool | str | None = None
    extra_body: Mapping[str, Any] | None = None
    step_id: str | None = None
    json_mode: bool = False
    json_schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", as_tools(self.tools))


class Options(TypedDict, total=False):
    """The fields of CallOptions as keyword arguments."""

    output_model: Any
    tools: Sequence[Tool]
    tool_choice: str | Mapping[str, Any] | None
    reasoning: bool | str | None
    extra_body: Mapping[str, Any] | None
    step_id: str | None
    json_mode: bool
    json_schema: Mapping[str, Any] | None


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts; one string, or one list of messages, is one prompt."""
    if isinstance(prompts, str):
        return [prompts]
    listed = list(prompts)
    if listed and all(isinstance(item, Mapping) for item in listed):
        return [listed]  # type: ignore[list-item]  # a conversation
    return listed  # type: ignore[return-value]  # checked prompt by prompt


def as_sampling(params: object, count: int) -> list[SamplingParams]:
    """One SamplingParams a prompt, from one for all or a list of as many as there are prompts."""
    if isinstance(params, Sequence) and not isinstance(params, str):
        if len(params) != count:
            msg = (
                f"{len(params)} sampling_params for {count} prompts; "
                "give one for all, or a list with one a prompt"
            )
            raise InvalidRequestError(msg)
        return [SamplingParams.of(p) for p in params]
    return [SamplingParams.of(params)] * count


def build_request(  # noqa: PLR0913 - the one place where all of them meet
    config: EngineConfig,
    prompt: Prompt,
    sampling: SamplingParams,
    options: CallOptions,
    *,
    index: int = 0,
    stream: bool = False,
) -> ChatRequest:
    """The request for one prompt; raises InvalidRequestError that names the prompt's place."""
    extra = {**config.extra_body, **(options.extra_body or {})}
    sampling = config.sampling.merged(sampling)
    if sampling.structured_outputs and (options.output_model is not None or options.json_mode):
        raise InvalidRequestError(_TWO_SHAPES.format(given=sampling.structured_outputs))
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
