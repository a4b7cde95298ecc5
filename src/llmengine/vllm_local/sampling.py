"""Our sampling parameters as vLLM's own."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

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
