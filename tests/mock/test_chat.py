"""POST /v1/chat/completions without a stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

PATH = "/v1/chat/completions"


def test_body_has_every_field_of_openai(reference: Api) -> None:
    """The keys of the body, the choice, the message and the usage are OpenAI's."""
    body = reference.chat().json()
    (choice,) = body["choices"]

    assert body.keys() >= {"id", "object", "created", "model", "choices", "usage"}
    assert (body["object"], body["model"]) == ("chat.completion", "mock")
    assert isinstance(body["created"], int)
    assert abs(body["created"] - time.time()) < 60
    assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"].keys() == {"role", "content", "refusal", "annotations"}
    assert (choice["finish_reason"], choice["logprobs"]) == ("stop", None)


def test_same_request_same_answer_under_another_id(reference: Api) -> None:
    """Two answers to one request differ only in the id."""
    one, two = reference.chat().json(), reference.chat().json()

    assert one["id"] != two["id"]
    assert one["choices"] == two["choices"]
    assert one["usage"] == two["usage"]


def test_default_answer_is_long_enough_to_be_cut(reference: Api) -> None:
    """An answer has more than twenty words."""
    assert len(reference.text().split()) > 20


def test_seed_changes_the_answer_unless_greedy(reference: Api) -> None:
    """Another seed gives another answer, but not at temperature 0."""
    assert reference.text(seed=1) == reference.text(seed=1)
    assert reference.text(seed=1) != reference.text(seed=2)
    assert reference.text(seed=1, temperature=0) == reference.text(seed=2, temperature=0)


def test_n_choices_differ_unless_greedy(reference: Api) -> None:
    """The choices are numbered, and sampled ones differ."""
    choices = reference.chat(n=3).json()["choices"]
    greedy = reference.chat(n=3, temperature=0).json()["choices"]

    assert [c["index"] for c in choices] == [0, 1, 2]
    assert len({c["message"]["content"] for c in choices}) == 3
    assert len({c["message"]["content"] for c in greedy}) == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_token_limit_cuts_to_the_token(reference: Api, name: str) -> None:
    """The answer has exactly as many tokens as allowed, and its finish reason is length."""
    whole = reference.text()
    body = reference.chat(logprobs=True, **{name: 5}).json()
    (choice,) = body["choices"]

    assert whole.startswith(choice["message"]["content"])
    assert choice["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == len(choice["logprobs"]["content"]) == 5


def test_limit_that_is_just_reached_is_reached(reference: Api) -> None:
    """An answer of exactly the limit counts as cut, because no token is left for its end."""
    tokens = reference.chat().json()["usage"]["completion_tokens"]
    reached, spared = (reference.said(max_tokens=tokens + more) for more in (0, 1))

    assert reached["message"] == spared["message"]
    assert (reached["finish_reason"], spared["finish_reason"]) == ("length", "stop")


def test_usage_adds_up_over_choices(reference: Api) -> None:
    """The prompt is counted once, and every answer is counted."""
    one = reference.chat(max_tokens=6).json()["usage"]
    three = reference.chat(max_tokens=6, n=3).json()["usage"]

    assert three["prompt_tokens"] == one["prompt_tokens"] > 0
    assert three["completion_tokens"] == 18
    assert three["total_tokens"] == three["prompt_tokens"] + 18


@pytest.mark.parametrize("form", [str, lambda s: [s], lambda s: ["zzz", s]])
def test_stop_sequence_ends_the_answer(reference: Api, form: Any) -> None:
    """The text ends before the stop sequence, in both forms."""
    whole = reference.text()
    word = whole.split()[5]
    choice = reference.said(stop=form(word))

    assert choice["message"]["content"] == whole[: whole.index(word)]
    assert choice["finish_reason"] == "stop"


def test_text_parts_are_one_message(reference: Api) -> None:
    """An array of text parts is the same as one string."""
    parts = [{"type": "text", "text": "Tell "}, {"type": "text", "text": "me."}]

    assert reference.text([{"role": "user", "content": parts}]) == reference.text()


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": {"7": -5}},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"frequency_penalty": 1, "presence_penalty": -1, "top_p": 0.5},
        {"max_tokens": None, "stop": None, "tools": None, "stream": None},
        {"a_field_of_tomorrow": {"x": 1}},
    ],
)
def test_parameters_are_accepted(reference: Api, params: dict[str, Any]) -> None:
    """Unknown parameters are ignored, and null is the same as a missing parameter."""
    assert reference.text(**params)


def test_strong_bias_forces_one_token(reference: Api) -> None:
    """A bias of 100 makes the model repeat one token."""
    words = reference.text(logit_bias={"5": 100}).split()

    assert len(words) > 5
    assert len(set(words)) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"frequency_penalty": 2},
        {"presence_penalty": -2},
        {"temperature": 1.5, "seed": 1},
        {"verbosity": "low"},
        {"verbosity": "high"},
        {"logit_bias": {"7": -100}},
    ],
)
def test_a_parameter_changes_prose(reference: Api, params: dict[str, Any]) -> None:
    """At temperature 0 the text is the same each time, and another one with the parameter."""
    plain = {"temperature": 0}

    assert reference.text(**plain) == reference.text(**plain)
    assert reference.text(**plain | params) == reference.text(**plain | params)
    assert reference.text(**plain) != reference.text(**plain | params)


@pytest.mark.parametrize("params", [{"temperature": 0}, {"temperature": 2, "top_p": 0}])
def test_without_chance_the_seed_has_no_effect(reference: Api, params: dict[str, Any]) -> None:
    """Only the most likely token is left at temperature 0, or with a tiny top_p."""
    assert len({reference.text(seed=seed, **params) for seed in range(3)}) == 1
    assert len({reference.text(seed=seed, temperature=2) for seed in range(3)}) == 3


def test_a_stored_completion_is_kept_until_it_is_deleted(reference: Api) -> None:
    """It can be retrieved by its id, with its metadata, until it is deleted."""
    body = reference.chat(store=True, metadata={"a": "b"}).json()
    path = f"/v1/chat/completions/{body['id']}"

    assert reference.http.get(path).json() == body | {"metadata": {"a": "b"}}
    assert reference.http.delete(path).json()["deleted"] is True
    assert reference.http.get(path).status_code == 404


def test_what_is_not_stored_cannot_be_retrieved(reference: Api) -> None:
    """Completions are not stored unless the request asks for it."""
    body = reference.chat().json()

    assert reference.http.get(f"/v1/chat/completions/{body['id']}").status_code == 404


def test_the_service_tier_is_reported_if_the_request_has_one(reference: Api) -> None:
    """A tier of auto is the default one; without the field the answer has no tier."""
    assert reference.chat(service_tier="auto").json()["service_tier"] == "default"
    assert reference.chunks(service_tier="flex")[0]["service_tier"] == "flex"
    assert "service_tier" not in reference.chat().json()


def test_chunks_have_an_obfuscation_if_the_request_asks_for_it(reference: Api) -> None:
    """Without include_obfuscation there is none."""
    asked = reference.chunks(stream_options={"include_obfuscation": True})

    assert all(chunk["obfuscation"] for chunk in asked)
    assert not any("obfuscation" in chunk for chunk in reference.chunks())


def test_reasoning_effort_brings_counted_reasoning(reference: Api) -> None:
    """Reasoning has its own field, and its tokens are counted."""
    body = reference.chat(reasoning_effort="high").json()
    message = body["choices"][0]["message"]

    assert message["reasoning"]
    assert message["reasoning"] not in message["content"]
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert "reasoning" not in reference.said(reasoning_effort="none")["message"]


def test_logprobs_describe_every_token(reference: Api) -> None:
    """Entries join to the text, alternatives are sorted, and no probability is above one."""
    choice = reference.said(logprobs=True, top_logprobs=4, max_tokens=8)
    entries = choice["logprobs"]["content"]

    assert choice["logprobs"]["refusal"] is None
    spelled = b"".join(bytes(e["bytes"]) for e in entries).decode()
    assert spelled == choice["message"]["content"]
    for entry in entries:
        tops = [t["logprob"] for t in entry["top_logprobs"]]
        assert len(tops) == len({t["token"] for t in entry["top_logprobs"]}) == 4
        assert tops == sorted(tops, reverse=True)
        assert tops[0] == entry["logprob"] < 0


def test_logprobs_without_top_have_no_alternatives(reference: Api) -> None:
    """top_logprobs is empty if the request does not ask for it."""
    entries = reference.said(logprobs=True)["logprobs"]["content"]

    assert all(e["top_logprobs"] == [] for e in entries)
