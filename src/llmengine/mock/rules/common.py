"""Rules that several routes share, under names of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.rules.kinds import Problem, Rule, either, required, typed, within

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_MAX_STOPS = 4
_MAX_BIAS = 100


def model_rules(group: str) -> tuple[Rule, ...]:
    """The model must be named, and known."""
    return (
        Rule(f"{group}.model.required", either(required("model"), typed(model="a string"))),
        Rule("err.unknown_model", _unknown_model),
    )


def _unknown_model(body: JSON, limits: Limits) -> Problem | None:
    model = body.get("model")
    if not isinstance(model, str) or model in limits.models:
        return None
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Problem(message, None, "model_not_found", 404)


def sampling_rules(group: str) -> tuple[Rule, ...]:
    """Ranges of the sampling parameters of chat and text completions."""
    penalties = either(within("presence_penalty", -2, 2), within("frequency_penalty", -2, 2))
    return (
        Rule(f"{group}.temperature.range", within("temperature", 0, 2)),
        Rule(f"{group}.top_p.range", within("top_p", 0, 1)),
        Rule(f"{group}.penalties.range", penalties),
        Rule(f"{group}.n.range", within("n", 1, 128)),
        Rule(f"{group}.stop.nonstring", _stop_nonstring),
        Rule(f"{group}.stop.max4", _stop_too_many),
        Rule(f"{group}.logit_bias.range", _logit_bias),
        Rule(f"{group}.stream_options.without_stream", _stream_options),
    )


def _stop_nonstring(body: JSON, limits: Limits) -> Problem | None:
    stop = body.get("stop")
    listed = stop if isinstance(stop, list) else [stop]
    if stop is None or all(isinstance(s, str) for s in listed):
        return None
    return Problem("Invalid type for 'stop': expected strings.", "stop", "invalid_type")


def _stop_too_many(body: JSON, limits: Limits) -> Problem | None:
    stop = body.get("stop")
    if not isinstance(stop, list) or len(stop) <= _MAX_STOPS:
        return None
    message = (
        f"Invalid 'stop': array too long. Expected an array with maximum length {_MAX_STOPS}, "
        f"but got an array with length {len(stop)} instead."
    )
    return Problem(message, "stop", "array_above_max_length")


def _logit_bias(body: JSON, limits: Limits) -> Problem | None:
    bias = body.get("logit_bias")
    if not isinstance(bias, dict):
        return None
    for token, value in bias.items():
        field = f"logit_bias.{token}"
        if problem := typed(**{field: "a number"})({field: value}, limits):
            return problem
        if problem := within(field, -_MAX_BIAS, _MAX_BIAS)({field: value}, limits):
            return problem
    return None


def _stream_options(body: JSON, limits: Limits) -> Problem | None:
    if body.get("stream_options") is None or body.get("stream") is True:
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return Problem(message, "stream_options", None)


def context_problem(prompt: int, wanted: int | None, limits: Limits, param: str) -> Problem | None:
    """The problem of a prompt that, with the tokens asked for, does not fit the context."""
    total = prompt + (wanted or 0)
    if total <= limits.context_length and prompt < limits.context_length:
        return None
    message = (
        f"This model's maximum context length is {limits.context_length} tokens. However, you "
        f"requested {total} tokens ({prompt} in the {param}, {wanted or 0} in the completion). "
        f"Please reduce the length of the {param} or completion."
    )
    return Problem(message, param, "context_length_exceeded")
