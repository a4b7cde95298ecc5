"""Sampling parameters: ranges, objects of other libraries and merging."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from llmengine import InvalidRequestError, SamplingParams, UnknownArgumentError
from llmengine.types.sampling import NEUTRAL, is_neutral, refuse_native_only


@dataclass
class StructuredOutputsParams:
    """Looks like vLLM's class of that name."""

    json: Any = None
    regex: str | None = None
    disable_any_whitespace: bool = False
    _backend: str | None = None


@dataclass
class VLLMSamplingParams:
    """Looks like ``vllm.SamplingParams``, with its defaults."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[int, float] | None = None
    detokenize: bool = True
    spaces_between_special_tokens: bool = True
    allowed_token_ids: list[int] | None = None
    extra_args: dict[str, Any] | None = None


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("n", [1, 8]),
        ("temperature", [0, 0.7, 2]),
        ("top_p", [0, 0.5, 1]),
        ("top_k", [-1, 0, 50]),
        ("min_p", [0.0, 1]),
        ("presence_penalty", [-2, 2]),
        ("frequency_penalty", [-2.0, 2.0]),
        ("repetition_penalty", [0.5, 3]),
        ("seed", [-1, 0, 2**63]),
        ("max_tokens", [1]),
        ("min_tokens", [0]),
        ("logprobs", [0, 20]),
        ("prompt_logprobs", [0, 1]),
        ("stop_token_ids", [(), (1, 2)]),
        ("bad_words", [("a",)]),
    ],
)
def test_values_in_range_are_taken(name: str, good: list[Any]) -> None:
    """The ends of a range belong to it."""
    for value in good:
        assert getattr(SamplingParams(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("n", [0, 1.0, True, "1"]),
        ("temperature", [-0.1, float("nan"), float("inf"), "hot", True]),
        ("top_p", [-0.1, 1.1]),
        ("top_k", [-2, 1.5]),
        ("min_p", [1.1]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [3]),
        ("repetition_penalty", [-1]),
        ("seed", [1.5, "1", False]),
        ("max_tokens", [0, -1, 1.5]),
        ("min_tokens", [-1]),
        ("logprobs", [-1, True]),
        ("prompt_logprobs", [-1]),
        ("stop", [5, [5], b"x", [b"x"]]),
        ("stop_token_ids", ["7", 7, ["7"]]),
        ("bad_words", ["word", [1]]),
    ],
)
def test_values_out_of_range_are_refused(name: str, wrong: list[Any]) -> None:
    """The error names the field and shows the value."""
    for value in wrong:
        with pytest.raises(InvalidRequestError, match=f"'{name}' is ") as failed:
            SamplingParams(**{name: value})
        assert repr(value) in str(failed.value)


def test_stops_are_a_tuple() -> None:
    """One string is one stop; a list cannot be changed afterwards."""
    stops = ["a", "b"]
    params = SamplingParams(stop=stops)
    stops.append("c")
    assert params.stop == ("a", "b")
    assert SamplingParams(stop="ab").stop == ("ab",)


def test_ours_and_none_and_mappings() -> None:
    """An object of ours stays, None sets nothing, a mapping is read by name."""
    params = SamplingParams(temperature=0)
    assert SamplingParams.of(params) is params
    assert SamplingParams.of(None) == SamplingParams()
    assert SamplingParams.of({"temperature": 0}) == params


def test_vllms_object_is_read_by_its_attributes() -> None:
    """Set fields and vLLM's own defaults are kept, empty ones are not."""
    params = SamplingParams.of(VLLMSamplingParams(temperature=0, stop=["x"], logit_bias={1: 2.0}))
    assert params == SamplingParams(
        n=1,
        temperature=0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        stop="x",
        ignore_eos=False,
        max_tokens=16,
        min_tokens=0,
        logit_bias={1: 2.0},
    )


def test_vllms_structured_outputs_become_a_mapping() -> None:
    """Only the set fields of the object are kept."""
    wanted = StructuredOutputsParams(json={"type": "object"}, _backend="x")
    params = SamplingParams.of(VLLMSamplingParams(structured_outputs=wanted))
    assert params.structured_outputs == {"json": {"type": "object"}}


@pytest.mark.parametrize(
    ("name", "value"),
    [("allowed_token_ids", [1]), ("extra_args", {"a": 1}), ("detokenize", False)],
)
def test_a_field_that_would_be_lost_is_refused(name: str, value: Any) -> None:
    """Sending a vLLM field that no server takes raises an error that names it."""
    params = SamplingParams.of(VLLMSamplingParams(**{name: value}))
    with pytest.raises(InvalidRequestError, match=name):
        refuse_native_only(params)


def test_vllms_object_is_kept_until_ours_goes_over_it() -> None:
    """An engine that can use the object itself gets it, unless a value was changed."""
    native = VLLMSamplingParams()
    params = SamplingParams.of(native)
    assert params.native is native
    assert SamplingParams(seed=1).merged(params).native is native
    assert params.merged(SamplingParams(seed=1)).native is None


def test_a_field_that_only_vllms_own_class_has_is_not_lost_in_merging() -> None:
    """It is kept if nothing else is set, and if the defaults hold it."""
    guided = SamplingParams.of(SimpleNamespace(temperature=None, guided_decoding={"regex": "a"}))
    with pytest.raises(InvalidRequestError, match="guided_decoding"):
        refuse_native_only(SamplingParams(seed=1).merged(guided))
    with pytest.raises(InvalidRequestError, match="guided_decoding"):
        guided.merged(SamplingParams(seed=1))


@pytest.mark.parametrize("other", [5, "temperature=0", [SamplingParams()]])
def test_other_objects_are_refused(other: object) -> None:
    """The error says what can be given."""
    with pytest.raises(InvalidRequestError, match="give a SamplingParams"):
        SamplingParams.of(other)


def test_unknown_names_are_refused() -> None:
    """The error names the misspelt field and lists the fields."""
    with pytest.raises(InvalidRequestError, match=r"'temprature'; did you mean 'temperature'\?"):
        SamplingParams.of({"temprature": 0})


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"max_token": 5}, "did you mean 'max_tokens'?"),
        ({"max_completion_tokens": 5}, "use 'max_tokens'"),
        ({"guided_json": {}}, "give the call an output_model"),
        ({"zzz": 5}, "known are n, temperature, top_p,"),
    ],
)
def test_unknown_argument_is_named_with_the_one_that_is_meant(
    given: dict[str, Any], advice: str
) -> None:
    """It is an error of this library, and also the TypeError that Python would raise."""
    with pytest.raises(UnknownArgumentError) as caught:
        SamplingParams(**given)

    assert f"SamplingParams has no argument {next(iter(given))!r}; {advice}" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_arguments_are_given_by_name() -> None:
    """The order of the fields is nothing to rely on."""
    with pytest.raises(UnknownArgumentError, match=r"too many .* give them by name: n, temp"):
        SamplingParams(5)  # type: ignore[misc]


def test_merging_takes_what_is_set() -> None:
    """Set fields of the caller win, also a zero; the rest are the defaults."""
    defaults = SamplingParams(temperature=1, max_tokens=5, stop="x")
    merged = defaults.merged(SamplingParams(temperature=0, seed=1))
    assert merged == SamplingParams(temperature=0, max_tokens=5, stop="x", seed=1)
    assert defaults.merged(SamplingParams()) == defaults
    assert SamplingParams().merged(defaults) == defaults


def test_what_asks_for_nothing() -> None:
    """The defaults of vLLM, its older spelling of top_k and empty lists are neutral."""
    assert all(is_neutral(name, value) for name, value in NEUTRAL.items())
    assert is_neutral("top_k", -1)
    assert is_neutral("bad_words", ())
    assert is_neutral("logit_bias", {})
    assert not is_neutral("top_k", 5)
    assert not is_neutral("ignore_eos", value=True)
    assert not is_neutral("seed", 0)
    assert not is_neutral("prompt_logprobs", 0)


def test_params_survive_pickling() -> None:
    """Parameters can be sent to another process."""
    params = SamplingParams(temperature=0, stop="x", logit_bias={1: 2.0})
    assert pickle.loads(pickle.dumps(params)) == params
