"""Our sampling parameters as vLLM's own.

Messages as a prompt, by the way that ``LLM.chat`` goes itself.
"""

from __future__ import annotations

from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import ChatRequest
    from llmengine.types.sampling import SamplingParams


# What ``vllm serve`` takes from the model's generation_config.json where a request is silent.
_FROM_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")

# The constraint has a form of its own, and token ids are always there.
_SAID_OTHERWISE = frozenset({"structured_outputs", "return_token_ids"})


def vllm_params(request: ChatRequest, model_defaults: Mapping[str, Any]) -> Any:
    """The ``vllm.SamplingParams`` of a request.

    One that the caller gave is taken as it is. Of ours, what is left out means what ``vllm serve``
    takes it for: the model's own default, and no token limit but the context's.
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


def sampling_fields(ours: SamplingParams, model_defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``vllm.SamplingParams`` but for the constraint of the output."""
    # Left out, vLLM would take 16 in process; None is the rest of the context, as a server does.
    fields: dict[str, Any] = {"max_tokens": None}
    fields |= {name: model_defaults[name] for name in _FROM_MODEL if name in model_defaults}
    fields |= {name: v for name, v in ours.given().items() if name not in _SAID_OTHERWISE}
    stops = [*(ours.stop_token_ids or ()), *(model_defaults.get("stop_token_ids") or ())]
    if stops:
        fields["stop_token_ids"] = list(dict.fromkeys(stops))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _constraint(request: ChatRequest) -> Any:
    """What holds the answer to a form, as vLLM has it; None where nothing is asked for."""
    fields = request.sampling.structured_outputs
    if (wanted := request.response_format) is not None:
        fields = {"json_object": True} if wanted.schema is None else {"json": dict(wanted.schema)}
    if not fields:
        return None
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - as above

    return StructuredOutputsParams(**fields)


# Arguments of ``LLM.chat`` that a call may set by ``extra_body``, under the server's names too.
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
# vLLM's name for it since 0.14, and the one before; each takes a list of conversations.
_RENDERERS = ("_preprocess_chat", "preprocess_chat")


def render(llm: Any, request: ChatRequest) -> Any:
    """The request's messages as what vLLM's engine takes, tokenized.

    Raises ConfigError where this vLLM has no such step, and what vLLM raises for messages that it
    does not take.
    """
    messages = deepcopy(list(request.messages))  # vLLM turns the arguments of calls into values
    for name in _RENDERERS:
        if (renderer := getattr(llm, name, None)) is not None:
            (prompt,) = renderer([messages], **chat_arguments(request))
            return prompt
    import vllm  # noqa: PLC0415 - for the message alone

    msg = f"vLLM {vllm.__version__} renders chats in a way that vllm_local does not know"
    raise ConfigError(msg)


def chat_arguments(request: ChatRequest) -> dict[str, Any]:
    """The arguments of ``LLM.chat`` that say how the messages become a prompt.

    Raises InvalidRequestError for a field of ``extra_body`` that means nothing in process.
    """
    if unknown := sorted(request.extra_body.keys() - _ARGUMENTS):
        msg = (
            f"extra_body has {unknown[0]!r}, which is no argument of LLM.chat; "
            f"known are {', '.join(sorted(_ARGUMENTS))}"
        )
        raise InvalidRequestError(msg)
    arguments = dict(request.extra_body)
    if variables := _reasoning(request.reasoning) | arguments.get("chat_template_kwargs", {}):
        arguments["chat_template_kwargs"] = variables
    if request.tools:
        arguments["tools"] = list(request.tools)
    return arguments


def _reasoning(asked: bool | str | None) -> dict[str, Any]:
    """What ``vllm serve`` tells the chat template of it."""
    if asked is None:
        return {}
    if isinstance(asked, str):
        return {"reasoning_effort": asked, "enable_thinking": asked != "none"}
    return {"enable_thinking": asked}
