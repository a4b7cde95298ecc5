"""Our sampling parameters as vLLM's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.values.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.values.request import ChatRequest, ResponseFormat
    from llmengine.values.sampling import SamplingParams

# What ``vllm serve`` takes from the model's generation_config.json where a request is silent.
_FROM_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")

# The constraint has a form of its own, and token ids are always there.
_SAID_OTHERWISE = frozenset({"structured_outputs", "return_token_ids"})


def vllm_params(request: ChatRequest, model_defaults: Mapping[str, Any]) -> Any:
    """The ``vllm.SamplingParams`` of a request.

    One that the caller gave is taken as it is. Of ours, what is left out means what ``vllm serve``
    takes it for: the model's own default, and no token limit but the context's. Raises
    InvalidRequestError for two constraints of the output at once.
    """
    from vllm import SamplingParams  # noqa: PLC0415 - optional, and seconds to import
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - as above

    native: Any = request.sampling.native
    if native is None:
        params = SamplingParams.from_optional(**sampling_fields(request.sampling, model_defaults))
    else:
        params = native.clone()
    if (constraint := _constraint(request)) is not None:
        params.structured_outputs = constraint
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
    """What holds the output to a form, as vLLM has it; None where nothing is asked for."""
    given, wanted = request.sampling.structured_outputs, request.response_format
    if given and wanted is not None:
        msg = (
            "structured_outputs and an output_model (or json_mode) both constrain the answer; "
            "give one of them"
        )
        raise InvalidRequestError(msg)
    if request.sampling.native is not None and wanted is None:
        return None  # it has its own, as it is
    fields = given or _format_fields(wanted)
    if not fields:
        return None
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - as above

    return StructuredOutputsParams(**fields)


def _format_fields(wanted: ResponseFormat | None) -> dict[str, Any]:
    if wanted is None:
        return {}
    return {"json_object": True} if wanted.schema is None else {"json": dict(wanted.schema)}
