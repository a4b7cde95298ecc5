"""POST /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

PATH = "/v1/completions"


def _choices(api: Api, **body: Any) -> list[Any]:
    response = api.post(PATH, **body)
    assert response.status_code == 200, response.text
    choices: list[Any] = response.json()["choices"]
    return choices


def test_body_has_every_field_of_openai(reference: Api) -> None:
    """The keys of the body and of the choice are OpenAI's, and 16 tokens are the default."""
    body = reference.post(PATH, prompt="Once upon").json()
    (choice,) = body["choices"]

    assert body["object"] == "text_completion"
    assert choice.keys() == {"text", "index", "logprobs", "finish_reason"}
    assert choice["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    ("prompt", "count"), [("a", 1), (["a", "b", "c"], 3), ([5, 6], 1), ([[5, 6], [7]], 2)]
)
def test_prompts_come_in_four_forms(reference: Api, prompt: Any, count: int) -> None:
    """Each prompt gets n choices with consecutive numbers; greedy ones are as if alone."""
    choices = _choices(reference, prompt=prompt, n=2)

    assert [c["index"] for c in choices] == list(range(2 * count))
    assert len({c["text"] for c in choices}) == 2 * count


def test_prompt_in_a_list_says_the_same_alone(reference: Api) -> None:
    """A prompt's answer does not depend on the other prompts."""
    together = _choices(reference, prompt=["one", "two"], temperature=0)
    alone = _choices(reference, prompt="two", temperature=0)

    assert together[1]["text"] == alone[0]["text"]


def test_echo_puts_the_prompt_first(reference: Api) -> None:
    """With echo the prompt comes before the answer; with max_tokens 0 it comes alone."""
    (plain,) = _choices(reference, prompt="Once upon", temperature=0)
    (echoed,) = _choices(reference, prompt="Once upon", temperature=0, echo=True)
    (bare,) = _choices(reference, prompt="Once upon", max_tokens=0, echo=True)

    assert echoed["text"] == "Once upon" + plain["text"]
    assert (bare["text"], bare["finish_reason"]) == ("Once upon", "length")


def test_logprobs_have_the_legacy_shape(reference: Api) -> None:
    """There are four parallel lists; the first token of an echoed prompt has no probability."""
    (choice,) = _choices(reference, prompt="Once upon", logprobs=2, max_tokens=4, echo=True)
    found = choice["logprobs"]

    assert found.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert "".join(found["tokens"]) == choice["text"]
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    for token, chance, top, offset in list(zip(*found.values(), strict=True))[1:]:
        assert top[token] == chance < 0
        assert len(top) == 2
        assert choice["text"][offset:].startswith(token)


def test_suffix_and_best_of_are_honoured(reference: Api) -> None:
    """A suffix changes the answer; all answers of best_of are counted, but only n are sent."""
    (plain,) = _choices(reference, prompt="a", temperature=0)
    (other,) = _choices(reference, prompt="a", temperature=0, suffix="the end")
    body = reference.post(PATH, prompt="a", best_of=3, max_tokens=5).json()

    assert plain["text"] != other["text"]
    assert len(body["choices"]) == 1
    assert body["usage"]["completion_tokens"] == 15


def test_stop_sequence_ends_the_text(reference: Api) -> None:
    """The text ends before the stop sequence."""
    (whole,) = _choices(reference, prompt="a", temperature=0, max_tokens=12)
    word = whole["text"].split()[4]
    (cut,) = _choices(reference, prompt="a", temperature=0, max_tokens=12, stop=[word])

    assert cut["text"] == whole["text"][: whole["text"].index(word)]
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize("params", [{}, {"echo": True}, {"logprobs": 1}, {"n": 2}])
def test_stream_joins_to_the_whole(reference: Api, params: dict[str, Any]) -> None:
    """Chunks join to the text with the same offsets, and the usage is the same."""
    body = {"prompt": ["a b", "c"], "temperature": 0} | params
    chunks = reference.events(
        reference.post(PATH, **body, stream=True, stream_options={"include_usage": True})
    )
    whole = reference.post(PATH, **body).json()

    assert chunks[-1]["usage"] == whole["usage"]
    assert all(c["usage"] is None for c in chunks[:-1])
    for choice in whole["choices"]:
        parts = [c["choices"][0] for c in chunks[:-1]]
        parts = [p for p in parts if p["index"] == choice["index"]]
        assert "".join(p["text"] for p in parts) == choice["text"]
        assert [p["finish_reason"] for p in parts][-1] == choice["finish_reason"]
        offsets = [o for p in parts if p["logprobs"] for o in p["logprobs"]["text_offset"]]
        assert offsets == (choice["logprobs"] or {"text_offset": []})["text_offset"]
