"""Whole comparisons of live servers: the requests, their order and the results."""

from __future__ import annotations

import random
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
from pytest_llmengine.parity.schedule import groups_of, turns

if TYPE_CHECKING:
    from collections.abc import Callable
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

    live(server).measure(prompts)

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
    """One answer that always has another token diverges, and the report has both texts.

    Its group is sent to the candidate again until chance does not explain it.
    """

    def change(body: dict[str, Any]) -> None:
        choice = body["choices"][0]
        choice["token_ids"][1] += 1
        choice["message"]["content"] += "!"

    candidate = serve(altered(change, "Question 2?"))

    report = compare(live(serve()), live(candidate), prompts, QUICK)

    assert report.verdict is ParityVerdict.DIVERGES, report.reason
    assert [len(report.candidate.answers_to(place)) > 2 for place in range(4)] == [
        False,
        True,
        False,
        False,
    ]
    (other,) = [pair for pair in report.pairs if pair.status is Status.DIVERGED]
    assert (other.id, other.divergence.position) == ("p2", 1)
    ours, theirs = report.answers("p2")
    assert theirs.text == ours.text + "!"


def test_an_answer_that_may_differ_is_not_asked_again(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """With a margin of one prompt, one that always differs needs no more than the usual passes."""

    def change(body: dict[str, Any]) -> None:
        body["choices"][0]["message"]["content"] += "!"
        body["choices"][0]["token_ids"][1] += 1

    candidate = live(serve(altered(change, "Question 2?")))

    report = compare(live(serve()), candidate, prompts, Choices(rounds=0, margin=0.25))

    assert report.verdict is ParityVerdict.EQUAL, report.reason
    assert {len(report.candidate.answers_to(place)) for place in range(4)} == {2}


def test_many_other_answers_are_found_without_asking_again(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """If more than two groups differ each time, two passes of the candidate are enough."""

    def change(body: dict[str, Any]) -> None:
        body["choices"][0]["message"]["content"] = "other"

    report = compare(live(serve()), live(serve(altered(change, "Question"))), prompts, QUICK)

    assert report.verdict is ParityVerdict.DIVERGES, report.reason
    assert {len(report.candidate.answers_to(place)) for place in range(4)} == {2}


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


def test_equal_servers_are_asked_once(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """Further passes are sent only if the first answers differ; a file gets them always."""
    ours, theirs = serve(), serve()
    kept: list[Side] = []

    compare(live(ours), live(theirs), prompts, QUICK)
    first = len(asked(ours)), len(asked(theirs))
    compare(live(ours), live(theirs), prompts, QUICK, kept.append)

    assert first == (3 + 4, 3 + 4)  # one prompt of each kind, then all
    assert len(asked(ours)) - first[0] == 3 + 4 * 4
    assert kept[0].passes == 4
    assert kept[0].cost.requests == 4 * 4


def test_a_single_odd_answer_is_chance(
    serve: Serve, live: Open, prompts: list[ParityPrompt]
) -> None:
    """An answer that another pass does not repeat is no change."""
    seen: list[str] = []

    def change(body: dict[str, Any]) -> None:
        seen.append("")
        if len(seen) == 1:
            body["choices"][0]["finish_reason"] = "stop"

    report = compare(live(serve()), live(serve(altered(change, "Question 2?"))), prompts, QUICK)

    assert report.verdict is ParityVerdict.EQUAL, report.reason
    assert len(seen) == 2
    assert report.baseline.passes == 4


def test_groups_are_of_one_kind_and_small_if_there_are_few(
    prompt: Callable[..., ParityPrompt],
) -> None:
    """At most a batch each, and as many as a test needs."""
    some = [prompt(n, kind="code" if n % 3 else "chat") for n in range(80)]

    groups = groups_of(some, batch=4)

    members: dict[int, list[str]] = {}
    for one, group in zip(some, groups, strict=True):
        members.setdefault(group, []).append(one.kind)
    assert all(len(set(kinds)) == 1 for kinds in members.values())
    assert {len(kinds) for kinds in members.values()} == {3, 4}
    assert len(set(groups_of(some[:10], batch=4))) == 10


def test_a_pass_sends_group_after_group_in_random_order() -> None:
    """Each group has a random number of prompts at once, so that passes are exchangeable."""
    groups = [0, 0, 0, 0, 1, 1, 1, 1, 2]

    passes = [list(turns(groups, random.Random(seed))) for seed in range(60)]

    for one in passes:
        assert [{groups[place] for place in places} for _, places in one] != [set()]
        assert sorted(place for _, places in one for place in places) == list(range(9))
        assert all(len({groups[place] for place in places}) == 1 for _, places in one)
    assert {at_once for one in passes for at_once, _ in one} == {1, 2, 4}
    assert len({tuple(groups[places[0]] for _, places in one) for one in passes}) == 6


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
    assert later.baseline.again == first.baseline.again
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
