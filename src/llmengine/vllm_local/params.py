"""The sampling parameters and the tokenized prompt that vLLM gets for a request."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import ChatRequest
    from llmengine.types.sampling import SamplingParams


# The fields for which ``vllm serve`` uses generation_config.json if the request has no value.
_MODEL_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")

# The constraint is set separately, and token ids are always returned.
_SET_SEPARATELY = frozenset({"structured_outputs", "return_token_ids"})


def vllm_params(request: ChatRequest, model_defaults: Mapping[str, Any]) -> Any:
    """The ``vllm.SamplingParams`` of a request.

    If the caller gave vLLM's SamplingParams, they are used as they are. In this library's
    SamplingParams, a field that is left out means the same as for ``vllm serve``: the model's
    own default, and for the token limit the rest of the context.
    """
    from vllm import SamplingParams  # noqa: PLC0415 - optional, and seconds to import
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - as above

    native: Any = request.sampling.native
    if native is None:
        fields = sampling_fields(request.sampling, model_defaults)
        params = SamplingParams.from_optional(**fields, structured_outputs=_constraint(request))
    else:
        params = copy(native)
        if request.response_format is not None:
            params.structured_outputs = _constraint(request)
    kinds = RequestOutputKind
    params.output_kind = kinds.DELTA if request.stream else kinds.FINAL_ONLY
    return params


def sampling_fields(
    sampling: SamplingParams, model_defaults: Mapping[str, Any]
) -> dict[str, object]:
    """The arguments of ``vllm.SamplingParams``, except the constraint of the output."""
    # The default of ``vllm.SamplingParams`` is 16. None means the rest of the context, as for
    # vLLM's server.
    fields: dict[str, object] = {"max_tokens": None}
    fields |= {name: model_defaults[name] for name in _MODEL_DEFAULTS if name in model_defaults}
    fields |= {name: v for name, v in sampling.given().items() if name not in _SET_SEPARATELY}
    stops = [*(sampling.stop_token_ids or ()), *(model_defaults.get("stop_token_ids") or ())]
    if stops:
        fields["stop_token_ids"] = list(dict.fromkeys(stops))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _constraint(request: ChatRequest) -> object:
    """The constraint on the answer as a vLLM object; None if the request has no constraint."""
    fields = request.sampling.structured_outputs
    if (wanted := request.response_format) is not None:
        fields = {"json_object": True} if wanted.schema is None else {"json": dict(wanted.schema)}
    if not fields:
        return None
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - as above

    return StructuredOutputsParams(**fields)


# Arguments of ``LLM.chat`` that a call may set by ``extra_body``; vLLM's server has the same names.
_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "chat_template_content_format",
        "chat_template_kwargs",
        "continue_final_message",
        "mm_processor_kwargs",
        "tokenization_kwargs",
    }
)
# The name of vLLM's method since 0.14, and the name before; both take a list of conversations.
_RENDERERS = ("_preprocess_chat", "preprocess_chat")


def render(llm: object, request: ChatRequest) -> object:
    """The request's messages as a tokenized prompt for vLLM's engine, made as ``LLM.chat`` does.

    Raises ConfigError if this version of vLLM does not have the method, and vLLM's own exceptions
    for messages that it does not accept.
    """
    messages = deepcopy(list(request.messages))  # vLLM changes the arguments of calls
    for name in _RENDERERS:
        if (renderer := getattr(llm, name, None)) is not None:
            (prompt,) = renderer([messages], **chat_arguments(request))
            return prompt
    import vllm  # noqa: PLC0415 - only for the message

    msg = f"vllm_local does not know how vLLM {vllm.__version__} renders chats"
    raise ConfigError(msg)


def chat_arguments(request: ChatRequest) -> dict[str, object]:
    """The arguments of ``LLM.chat`` that control how the messages become a prompt.

    Raises InvalidRequestError for any other field of ``extra_body``.
    """
    if unknown := sorted(request.extra_body.keys() - _ARGUMENTS):
        msg = (
            f"extra_body has {unknown[0]!r}, which is not an argument of LLM.chat; "
            f"the arguments are {', '.join(sorted(_ARGUMENTS))}"
        )
        raise InvalidRequestError(msg)
    arguments: dict[str, Any] = dict(request.extra_body)
    given = arguments.get("chat_template_kwargs", {})
    if variables := _reasoning_variables(request.reasoning) | given:
        arguments["chat_template_kwargs"] = variables
    if request.tools:
        arguments["tools"] = list(request.tools)
    return arguments


def _reasoning_variables(setting: bool | str | None) -> dict[str, object]:
    """The chat template variables that ``vllm serve`` sets for a reasoning option."""
    if setting is None:
        return {}
    if isinstance(setting, str):
        return {"reasoning_effort": setting, "enable_thinking": setting != "none"}
    return {"enable_thinking": setting}
