"""Whole comparisons of live servers: the requests, their order and the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour
from pytest_llmengine.parity import (
    Choices,
    ParityVerdict,
    Selection,
    Side,
    choose,
    compare,
    load,
    save,
)
from pytest_llmengine.parity.causes import Standing
from pytest_llmengine.parity.live import Throughput
from pytest_llmengine.parity.pairs import Status
from pytest_llmengine.parity.side import noise_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from llmengine.mock import MockServer
    from pytest_llmengine.parity import Live, ParityPrompt
    from pytest_llmengine.parity.answers import ParityAnswer

    Serve = Callable[..., MockServer]
    Open = Callable[..., Live]

QUICK = Choices(rounds=0)
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.fixture
def prompts(prompt: Callable[..., ParityPrompt]) -> list[ParityPrompt]:
    """Two plain prompts, one with a schema, and one with a tool that must be called."""
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
    return [
        prompt(1),
        prompt(2),
        prompt(3, kind="json", schema=SCHEMA, max_tokens=40),
        prompt(4, kind="tools", tools=(tool,), tool_choice="required", max_tokens=40),
    ]


def asked(server: MockServer) -> list[dict[str, Any]]:
    """The chat requests to a server, without the one that checks that it answers."""
    bodies = [c.json for c in server.calls if c.path == "/v1/chat/completions"]
    return [body for body in bodies if "seed" in body]


def altered(change: Callable[[dict[str, Any]], None], question: str) -> Behaviour:
    """A server that answers one prompt in another way."""

    def reply(body: dict[str, Any], call: Any) -> dict[str, Any]:
        if question in str(call.json and call.json.get("messages")):
            change(body)
        return body

    return Behaviour(reply=reply)


def test_two_servers_alike_are_equal(serve: Serve, live: Open, prompts: list[ParityPrompt]) -> None:
    """Texts, ids, schemas and calls of one implementation are equal."""
    report = compare(live(serve()), live(serve()), prompts, QUICK)

    assert report.verdict is ParityVerdict.EQUAL, report.reason
    assert [pair.status for pair in report.pairs] == [Status.SAME] * 4
    assert report.pairs[2].valid == (True, True)
    assert report.pairs[3].calls is not None
    assert report.pairs[3].calls.matched == 1
    standings = {cause.name: cause.standing for cause in report.causes}
    assert standings["chat_template"] is Standing.EQUAL
    assert standings["generation_config"] is Standing.PINNED


def test_every_sampling_value_is_sent(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """No request leaves a value to the server's defaults."""
    server = serve()

    live(server).measure(prompts, noise=False)

    for body, prompt in zip(sorted(asked(server), key=str), sorted(prompts, key=str), strict=True):
        assert {
            "temperature": 0.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": 0,
            "logprobs": True,
            "return_token_ids": True,
        }.items() <= body.items()
        assert body["max_tokens"] in {p.max_tokens for p in prompts}
        assert prompt.id


def test_another_answer_is_found(serve: Serve, live: Open, prompts: list[ParityPrompt]) -> None:
    """One answer with another token diverges, and the report has both texts."""

    def change(body: dict[str, Any]) -> None:
        choice = body["choices"][0]
        choice["token_ids"][1] += 1
        choice["message"]["content"] += "!"

    candidate = serve(altered(change, "Question 2?"))

    report = compare(live(serve()), live(candidate), prompts, QUICK)

    assert report.verdict is ParityVerdict.DIVERGES
    (other,) = [pair for pair in report.pairs if pair.status is Status.DIVERGED]
    assert (other.id, other.divergence.position) == ("p2", 1)
    ours, theirs = report.answers("p2")
    assert theirs.text == ours.text + "!"


def test_a_prompt_that_fails_is_in_the_report(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """A refusal by one side is a difference with its error; other answers are kept."""

    def request(body: dict[str, Any], call: Any) -> dict[str, Any]:
        if body.get("tools"):
            body["temperature"] = "hot"
        return body

    report = compare(live(serve()), live(serve(Behaviour(request=request))), prompts, QUICK)

    assert report.verdict is ParityVerdict.DIVERGES
    assert [pair.status for pair in report.pairs] == [*[Status.SAME] * 3, Status.ONE_FAILED]
    assert "BadRequestError" in (report.answers("p4")[1].error or "")


def test_the_noise_floor_is_measured_in_other_company(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """The baseline gets the prompts four times: as usual, again, one by one, and backwards."""
    server = serve()

    side = live(server).measure(prompts, noise=True)

    assert [(v.name, v.batch) for v in side.noise] == [
        ("again", 16),
        ("one by one", 1),
        ("all at once, reversed", 64),
    ]
    assert len(asked(server)) == 4 * len(prompts)
    assert all(pair.status is Status.SAME for v in side.noise for pair in v.pairs)


def test_a_variation_is_another_batch_or_order(
    prompts: list[ParityPrompt], answer: Callable[..., ParityAnswer]
) -> None:
    """As before, one at a time, and many at once from the end."""
    seen: list[tuple[str, list[str], int]] = []

    def ask(name: str, some: Sequence[ParityPrompt], batch: int) -> list[ParityAnswer]:
        seen.append((name, [p.id for p in some], batch))
        return [answer(p.id, id=p.id) for p in some]

    ids = [p.id for p in prompts]
    first = [answer(name, id=name) for name in ids]

    floor = noise_floor(prompts, first, 3, ask)

    assert seen == [
        ("again", ids, 3),
        ("one by one", ids, 1),
        ("all at once, reversed", ids[::-1], 64),
    ]
    assert [p.same_text for variation in floor for p in variation.pairs] == [True] * 3 * len(ids)


def test_a_mismatch_is_found_before_all_is_asked(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """One prompt of each kind shows another template; the noise floor is not measured then."""

    def change(body: dict[str, Any]) -> None:
        body["prompt_token_ids"].append(7)

    baseline = serve()

    report = compare(live(baseline), live(serve(altered(change, "Question"))), prompts, QUICK)

    assert report.verdict is ParityVerdict.NONE
    assert report.reason.startswith("mismatch of chat_template (")
    assert len(asked(baseline)) == 3  # chat, json, tools


def test_a_saved_baseline_judges_without_its_server(
    serve: Serve, live: Open, prompts: list[ParityPrompt], tmp_path: Path
) -> None:
    """It is compared with a later candidate, with its noise floor."""
    kept: list[Side] = []
    first = compare(live(serve()), live(serve()), prompts, QUICK, kept.append)
    save(kept[0], tmp_path / "kept.jsonl.gz")

    later = compare(load(tmp_path / "kept.jsonl.gz"), live(serve()), prompts, QUICK)

    assert later.verdict is ParityVerdict.EQUAL
    assert later.baseline.noise == first.baseline.noise
    assert later.baseline.source == "kept.jsonl.gz"
    assert later.throughput is None


def test_a_prompt_of_one_file_alone_is_a_mismatch(
    answer: Callable[..., ParityAnswer], side: Callable[..., Side]
) -> None:
    """Every prompt of either side counts."""
    one, two = side([answer()]), side([answer(), answer(number=2)])

    for sides in ((one, two), (two, one)):
        report = compare(*sides, choose(*sides, Selection()), QUICK)
        assert report.reason.startswith("mismatch of prompts (")
    limited = choose(one, two, Selection(limit=1))
    assert compare(one, two, limited, QUICK).verdict is ParityVerdict.EQUAL


def test_the_ratio_is_candidate_over_baseline() -> None:
    """It is taken per round, and then the median."""
    measured = Throughput(4, baseline=(10.0, 20.0, 10.0), candidate=(20.0, 20.0, 30.0))

    assert (measured.ratios, measured.ratio) == ([2.0, 1.0, 3.0], 2.0)


def test_throughput_is_measured_in_turns(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """Two live sides answer the plain prompts again, and take turns to be first."""
    order: list[str] = []

    def named(name: str) -> Behaviour:
        def request(body: dict[str, Any], call: Any) -> dict[str, Any]:
            order.append(name)
            return body

        return Behaviour(request=request)

    baseline, candidate = serve(named("ours")), serve(named("theirs"))
    sides = live(baseline), live(candidate)

    report = compare(*sides, prompts, Choices(rounds=2))

    assert report.throughput is not None
    assert report.throughput.prompts == 2
    assert len(report.throughput.baseline) == len(report.throughput.candidate) == 2
    assert len(asked(candidate)) == 3 + 4 + 2 * 2
    assert order[-8:] == ["ours"] * 2 + ["theirs"] * 4 + ["ours"] * 2
