"""Sampling parameters, under vLLM's field names, and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Self

from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidRequestError, UnknownArgumentError

# field: (lowest, highest) value that vLLM's SamplingParams and OpenAI's reference allow; None
# means no bound.
_RANGES: dict[str, tuple[float | None, float | None]] = {
    "n": (1, None),
    "temperature": (0, None),
    "top_p": (0, 1),
    "top_k": (-1, None),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, None),
    "max_tokens": (1, None),
    "min_tokens": (0, None),
    "logprobs": (0, None),
    "prompt_logprobs": (0, None),
    "seed": (None, None),
}

# vLLM's defaults for fields that a request leaves out. Sending such a value changes nothing.
NEUTRAL: dict[str, object] = {
    "n": 1,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_tokens": 0,
    "ignore_eos": False,
    "skip_special_tokens": True,
    "include_stop_str_in_output": False,
    "return_token_ids": False,
}


def is_neutral(name: str, value: object) -> bool:
    """Whether a value has no effect, so that a format without the field may leave it out."""
    if name == "top_k" and value == -1:  # vLLM's older spelling of 0
        return True
    if name in NEUTRAL:
        return bool(value == NEUTRAL[name])
    return isinstance(value, (Mapping, Sequence)) and not value


def _advice(unknown: Mapping[str, object]) -> str | None:
    """Advice on the first unknown argument, if it is a name from OpenAI's API or older clients."""
    return _OTHER_NAMES.get(next(iter(unknown)))


_OTHER_NAMES = {
    "max_completion_tokens": "use 'max_tokens'",
    "max_new_tokens": "use 'max_tokens'",
    "num_predict": "use 'max_tokens'",
    "repeat_penalty": "use 'repetition_penalty'",
    "best_of": "vLLM and OpenAI no longer have it; request n answers and choose one of them",
    "response_format": "give the call an output_model, json_schema=... or json_mode=True",
    "guided_json": "give the call an output_model, or structured_outputs={'json': ...}",
    "guided_regex": "use structured_outputs={'regex': ...}",
    "guided_choice": "use structured_outputs={'choice': ...}",
    "guided_grammar": "use structured_outputs={'grammar': ...}",
}


@checked_fields(UnknownArgumentError, _advice)
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to sample, with the names of ``vllm.SamplingParams``; None leaves a field to the server.

    ``max_tokens`` counts generated tokens. ``logprobs`` is the number of alternatives per token
    (0 gives only the chosen token). ``stop`` is one string or several. ``structured_outputs``
    constrains the answer by one of {json, regex, choice, grammar, json_object, structural_tag} if
    the server is vLLM; an ``output_model`` works with every server. ``return_token_ids`` is a
    field of vLLM's server; in-process vLLM always gives the ids of prompt and answer. ``native``
    is the ``vllm.SamplingParams`` that these parameters were read from, for an engine that can
    use it directly. A wrong value raises InvalidRequestError, which names the field and the
    range.
    """

    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    bad_words: Sequence[str] | None = None
    logit_bias: Mapping[int | str, float] | None = None
    structured_outputs: Mapping[str, object] | None = None
    return_token_ids: bool | None = None
    native: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name, kind in _LISTS.items():
            object.__setattr__(self, name, _items(name, getattr(self, name), kind))
        object.__setattr__(self, "structured_outputs", checked(self.structured_outputs))

    @classmethod
    def of(cls, params: object) -> Self:
        """SamplingParams from an object with vLLM's attributes, a mapping, or None.

        All attributes of a ``vllm.SamplingParams`` are read, also its defaults (``max_tokens`` is
        16 in vLLM), because in-process vLLM would use them. Attributes that this class has no
        field for are only in ``native``; see `refuse_native_only`.
        """
        if params is None:
            return cls()
        if isinstance(params, cls):
            return params
        if isinstance(params, Mapping):
            return cls(**{str(name): value for name, value in params.items()})
        if not hasattr(params, "temperature"):
            msg = (
                f"sampling_params is a {type(params).__name__}; give a SamplingParams, "
                "a vllm.SamplingParams, a mapping of its fields, or a list with one per prompt"
            )
            raise InvalidRequestError(msg)
        values = {name: getattr(params, name, None) for name in _NAMES}
        structured = values["structured_outputs"]
        if structured is not None and not isinstance(structured, Mapping):
            values["structured_outputs"] = _attributes(structured)
        return cls(**{k: v for k, v in values.items() if v not in (None, [], ())}, native=params)

    def merged(self, over: SamplingParams) -> SamplingParams:
        """These parameters as defaults, overridden by every field that `over` sets.

        ``native`` is taken from `over`, because it may have a field that this class lacks, such
        as ``guided_decoding``. Raises InvalidRequestError if `over` has no ``native`` and such a
        field of the defaults would be lost.
        """
        chosen = over.given()
        if over.native is None:
            if not chosen:
                return self
            refuse_native_only(self)
        defaults = self.given()
        if not defaults:
            return over
        return SamplingParams(**(defaults | chosen), native=over.native)

    def given(self) -> dict[str, Any]:
        """The fields that are set, as a new dictionary."""
        return {n: v for n, v in zip(_NAMES, _values(self), strict=True) if v is not None}


_NAMES = tuple(f.name for f in fields(SamplingParams) if f.name != "native")
_values = attrgetter(*_NAMES)


_WHOLE = frozenset(
    {"n", "top_k", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs", "seed"}
)
_LISTS: dict[str, type] = {"stop": str, "stop_token_ids": int, "bad_words": str}

# Fields of vllm.SamplingParams that no HTTP route accepts, with the value that has no effect.
_NATIVE_ONLY: dict[str, object] = {
    "allowed_token_ids": None,
    "detokenize": True,
    "extra_args": None,
    "guided_decoding": None,
    "logits_processors": None,
    "spaces_between_special_tokens": True,
    "truncate_prompt_tokens": None,
}


def _check_range(name: str, value: object, low: float | None, high: float | None) -> None:
    if value is None:
        return
    kinds = int if name in _WHOLE else (int, float)
    if (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (low is None or value >= low)
        and (high is None or value <= high)
    ):
        return
    kind = "a whole number" if name in _WHOLE else "a number"
    bounds = "" if low is None else f" from {low}" + ("" if high is None else f" to {high}")
    msg = f"sampling parameter {name!r} is {value!r}; it must be {kind}{bounds}"
    raise InvalidRequestError(msg)


def _items(name: str, value: object, kind: type) -> tuple[object, ...] | None:
    """A list field as a tuple, so that it cannot be changed afterwards."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = tuple(value)
        if all(isinstance(item, kind) for item in items):
            return items
    msg = f"sampling parameter {name!r} is {value!r}; it must be a list of {kind.__name__}"
    raise InvalidRequestError(msg)


def refuse_native_only(params: SamplingParams) -> None:
    """Raise InvalidRequestError for a field of ``native`` that cannot be sent to a server."""
    if params.native is None:
        return
    for name, neutral in _NATIVE_ONLY.items():
        value = getattr(params.native, name, neutral)
        if value not in (neutral, None, [], {}):
            msg = (
                f"vllm.SamplingParams.{name} is {value!r}, but servers have no common field for "
                "it; leave it out, or put the server's own field for it into extra_body"
            )
            raise InvalidRequestError(msg)


def _attributes(value: object) -> dict[str, object]:
    """Public data attributes of a plain object, dataclass or struct."""
    slots = getattr(type(value), "__dataclass_fields__", None) or vars(value)
    return {name: getattr(value, name) for name in slots if not name.startswith("_")}


def _texts(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    return bool(value) and all(isinstance(item, str) for item in value)


# The value that each kind of constraint takes, in words and as a test; see
# StructuredOutputsParams in vLLM's openapi.json.
_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "json": ("a JSON schema, as a mapping or as text", lambda v: isinstance(v, str | Mapping)),
    "regex": ("a regular expression as text", lambda v: isinstance(v, str)),
    "choice": ("a list of at least one text", _texts),
    "grammar": ("a grammar as text", lambda v: isinstance(v, str)),
    "json_object": ("True", lambda v: v is True),
    "structural_tag": ("a structural tag as JSON text", lambda v: isinstance(v, str)),
}
# vLLM 0.32 accepts these in a request and ignores them; only the server's own setting counts.
_SET_ON_THE_SERVER = frozenset(
    {"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"}
)


def checked(value: object) -> dict[str, object] | None:
    """``structured_outputs`` as a dictionary with at most one constraint; None if it is None.

    Entries that are None or False count as not given, as in vLLM's own class. Raises
    InvalidRequestError for an unknown entry, an entry of the wrong type, or more than one entry.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _wrong(value, f"give a mapping with one of {', '.join(_KINDS)}")
    given = {k: v for k, v in value.items() if v is not None and v is not False}
    if ignored := sorted(given.keys() & _SET_ON_THE_SERVER):
        raise _wrong(
            value,
            f"vLLM ignores {ignored[0]!r} in a request; set it on the server, with "
            "--structured-outputs-config",
        )
    if unknown := sorted(given.keys() - _KINDS.keys()):
        raise _wrong(value, f"{unknown[0]!r} is unknown; known are {', '.join(_KINDS)}")
    if len(given) > 1:
        raise _wrong(value, f"{' and '.join(given)} are given; a server takes only one of them")
    for kind, wanted in given.items():
        words, fits = _KINDS[kind]
        if not fits(wanted):
            raise _wrong(value, f"{kind!r} must be {words}")
    return given


def _wrong(value: object, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"sampling parameter 'structured_outputs' is {value!r}; {why}")
