"""Answers with tool calls: how they are joined from a stream, compared and counted."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, Fault, MockServer, Script
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.facts import OR, PARALLEL_DROPPED, TEXT_BEFORE_CALL
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue, select
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.samples import CALL_TOKENS, ESCAPES, WORD, saving
from pytest_llmengine.contract.tool_answer import ask, wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock import ReceivedRequest
    from pytest_llmengine.contract.runner import CheckResult

Events = list[dict[str, Any]]
WORDS = (WORD, ESCAPES)
ABOUT_SPLITS = ["tools.stream_equals", "tools.words", "chat.stream.tools", "tools.ids"]


def _split(events: Events, call: ReceivedRequest, *, at: Callable[[str], list[str]]) -> Events:
    """The same stream, with the arguments of each fragment cut into other fragments."""
    cut: Events = []
    for event in events:
        (choice,) = event["choices"] or [{"delta": {}}]
        for fragment in choice["delta"].get("tool_calls", []):
            parts = at(fragment["function"].get("arguments", ""))
            for index, part in enumerate(parts):
                head = fragment if index == 0 else {"index": fragment["index"]}
                function = fragment["function"] if index == 0 else {}
                made = head | {"function": function | {"arguments": part}}
                cut.append(event | {"choices": [choice | {"delta": {"tool_calls": [made]}}]})
        if "tool_calls" not in choice["delta"]:
            cut.append(event)
    return cut


def _run(check: Any, behaviour: Behaviour) -> CheckResult:
    with (
        MockServer(behaviour=behaviour) as server,
        Target(server.base_url, server.model) as target,
    ):
        return run_check(check, target, Profile("mock"))


@pytest.mark.parametrize("check", select(ids=ABOUT_SPLITS), ids=lambda check: check.id)
def test_a_stream_may_be_cut_at_each_character(check: Any) -> None:
    """A server that sends one character of the arguments per fragment keeps every rule."""
    behaviour = Behaviour("characters", events=partial(_split, at=lambda text: [*text] or [""]))
    result = _run(check, behaviour)
    assert result.outcome is Outcome.PASS, result.reason


def _arguments(word: str) -> str:
    return json.dumps({"word": word}, ensure_ascii=False)


@pytest.mark.parametrize("word", WORDS)
def test_a_call_is_the_same_at_every_split(word: str) -> None:
    """All arguments are sent in two fragments, cut at each position in turn."""
    text = _arguments(word)
    reply = {"tool_calls": [{"function": {"name": "save_word", "arguments": text}}]}
    positions = iter(range(len(text) + 1))

    def hook(events: Events, call: ReceivedRequest) -> Events:
        position = next(positions)
        first = _split(events, call, at=lambda part: [part])
        calls = [e for e in first if "tool_calls" in (e["choices"] or [{"delta": {}}])[0]["delta"]]
        one = calls[0]["choices"][0]["delta"]["tool_calls"][0]
        one["function"]["arguments"] = text
        rest = [event for event in first if event not in calls[1:]]
        return _split(rest, call, at=lambda part: [part[:position], part[position:]])

    with (
        MockServer(
            behaviour=Behaviour("split", events=hook), script=Script([reply] * 99)
        ) as server,
        Target(server.base_url, server.model) as target,
    ):
        for _ in range(len(text) + 1):
            answer = ask(target, "Save it.", saving(word), stream=True)
            assert [call.arguments for call in answer.calls] == [text]
            assert answer.finish == "tool_calls"


@pytest.mark.parametrize("word", WORDS)
def test_the_bytes_of_a_stream_may_be_cut_anywhere(word: str) -> None:
    """A chunk of the connection may end within a character."""
    with (
        MockServer(script=Script(faults=[Fault(split_at=1), Fault(split_at=7)])) as server,
        Target(server.base_url, server.model) as target,
    ):
        for _ in range(2):
            answer = ask(
                target, f"Save {word!r}.", saving(word), stream=True, tool_choice="required"
            )
            assert answer.arguments == {"word": word}


def test_a_pass_shows_what_was_counted() -> None:
    """The reason of a pass has the counts and their interval."""
    (check,) = select(ids=["tools.rate.required"])
    result = _run(check, Behaviour())
    assert result.outcome is Outcome.PASS
    assert result.reason.startswith("invalid JSON in 0 of 10 calls (0% to 28%); unknown name in 0")


def test_one_wrong_call_of_ten_is_enough() -> None:
    """The reason says how many calls are wrong, and the rate that this allows."""

    def hook(reply: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        if call.json["seed"] == 4:
            reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = '{"city"'
        return reply

    (check,) = select(ids=["tools.rate.required"])
    result = _run(check, Behaviour("one broken", reply=hook))
    assert result.outcome is Outcome.FAIL
    assert result.reason == (
        'invalid JSON in 1 of 10 calls (2% to 40%), such as “get_weather({"city")”'
    )


def test_a_model_that_calls_nothing_shows_nothing() -> None:
    """Too few calls are unmeasured, and not a pass."""
    (check,) = select(ids=["tools.rate.auto"])
    silent = Behaviour("no tools", request=lambda body, call: body | {"tool_choice": "none"})
    result = _run(check, silent)
    assert (result.outcome, result.reason) == (
        Outcome.UNMEASURED,
        "0 whole calls came, and at least 3 are needed",
    )


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilsons(hits: int, total: int, low: float, high: float) -> None:
    """The numbers are those of the published formula at 95%."""
    assert wilson(hits, total) == pytest.approx((low, high), abs=1e-4)


def test_a_server_that_always_calls_shows_nothing_of_required() -> None:
    """Auto is the control of required."""

    def always(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        return body | {"tool_choice": "required"} if body.get("tools") else body

    (check,) = select(ids=["tools.choice.required"])
    result = _run(check, Behaviour("always calls", request=always))
    assert result.outcome is Outcome.UNMEASURED
    assert "auto calls the tool" in result.reason


def test_a_model_that_disobeys_a_schema_is_not_the_servers_fault() -> None:
    """Where strict is not enforced, a word that the model made up is unmeasured."""

    def other(reply: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        for made in reply["choices"][0]["message"].get("tool_calls", []):
            made["function"]["arguments"] = '{"word": "something else"}'
        return reply

    for name in ("tools.unicode_args", "tools.nested"):
        (check,) = select(ids=[name])
        assert _run(check, Behaviour("own words", reply=other)).outcome is Outcome.UNMEASURED


@pytest.mark.parametrize("as_text", [False, True])
def test_a_call_that_the_token_cap_cut_does_not_count(as_text: bool) -> None:
    """Neither arguments that are cut nor the markup of a cut call are the server's fault."""

    def hook(reply: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        if call.json["seed"] == 4:
            choice = reply["choices"][0]
            choice["message"]["tool_calls"][0]["function"]["arguments"] = '{"city"'
            choice["finish_reason"] = "length"
            if as_text:
                choice["message"] = {"role": "assistant", "content": '<tool_call>{"name": "get_'}
        return reply

    (check,) = select(ids=["tools.rate.required"])
    result = _run(check, Behaviour("one cut", reply=hook))
    assert (result.outcome, "0 of 9 calls" in result.reason) == (Outcome.PASS, True)


@pytest.mark.parametrize(("mode", "outcome"), [("auto", Outcome.PASS), ("strict", Outcome.FAIL)])
def test_a_call_that_is_not_json_stays_in_the_text(mode: str, outcome: Outcome) -> None:
    """The model is to blame, unless the mode promises JSON."""

    def hook(reply: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        if call.json["seed"] == 4:
            broken = '<tool_call>{"name": "get_weather", "arguments": {}</tool_call>'
            reply["choices"][0]["message"] = {"role": "assistant", "content": broken}
        return reply

    (check,) = select(ids=[f"tools.rate.{mode}"])
    assert _run(check, Behaviour("broken once", reply=hook)).outcome is outcome


def _outcomes(behaviour: Behaviour, *ids: str) -> dict[str, tuple[Outcome, str]]:
    """The outcome and the first cause of these rules on one server."""
    with (
        MockServer(behaviour=behaviour) as server,
        Target(server.base_url, server.model) as target,
    ):
        results = [run_check(catalogue()[id_], target, Profile("mock")) for id_ in ids]
    return {r.check.id: (r.outcome, r.fact.partition(OR)[0]) for r in results}


FORCED = (
    *("tools.choice.required", "tools.choice.named_stream"),
    *("messages.tool_choice.any", "messages.stream.tool_choice.tool"),
    *("resp.tool_choice", "resp.tool_choice.stream"),
    *("resp.tool_choice.named", "resp.tool_choice.allowed"),
)


def test_a_text_up_to_the_token_cap_breaks_a_forced_call_in_every_api() -> None:
    """A call that is forced comes first, so the text shows that it was not forced."""

    def cut(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        limit = {"max_output_tokens": 16} if "input" in body else {"max_tokens": 1}
        return {k: v for k, v in body.items() if k not in {"tools", "tool_choice"}} | limit

    seen = _outcomes(Behaviour("a text that is cut", request=cut), *FORCED)
    cause = TEXT_BEFORE_CALL.partition(OR)[0]
    assert seen == dict.fromkeys(FORCED, (Outcome.FAIL, cause))


def test_a_cut_text_is_known_by_its_length_if_the_server_does_not_say_so() -> None:
    """LiteLLM calls a message that was cut an ended turn, and llama.cpp a response completed."""

    def ended(reply: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        how = {"status": "completed"} if "output" in reply else {"stop_reason": "end_turn"}
        return reply | how | {"usage": reply["usage"] | {"output_tokens": CALL_TOKENS}}

    def text(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        return {k: v for k, v in body.items() if k not in {"tools", "tool_choice"}}

    ids = ("messages.tool_choice.any", "resp.tool_choice")
    seen = _outcomes(Behaviour("ended", request=text, reply=ended), *ids)
    assert {outcome for outcome, _ in seen.values()} == {Outcome.FAIL}


def test_a_server_without_the_values_that_openai_refuses_is_lenient() -> None:
    """What is accepted does no harm."""
    ids = ("chat.tools.empty_array", "messages.tools.input_schema")
    seen = _outcomes(Behaviour("accepts", without_rules=frozenset(ids)), *ids)
    assert {outcome for outcome, _ in seen.values()} == {Outcome.LENIENT}


NONE_RULES = ("tools.choice.none", "tools.choice.none_stream", "tools.choice.none_after_calls")


@pytest.mark.parametrize(
    ("left_out", "none", "default"),
    [
        ({"none"}, Outcome.PASS, Outcome.PASS),
        ({"none", "default"}, Outcome.PASS, Outcome.FAIL),
        (set(), Outcome.UNMEASURED, Outcome.UNMEASURED),
    ],
)
def test_the_size_of_the_prompt_tells_what_a_model_without_calls_cannot_show(
    left_out: set[str], none: Outcome, default: Outcome
) -> None:
    """A server may leave the tools out of the prompt with none, or without tool_choice."""

    def hook(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        if body.get("tool_choice", "default") in left_out:
            return {key: v for key, v in body.items() if key not in {"tools", "tool_choice"}}
        return body | {"tool_choice": "none"}

    behaviour = Behaviour("never calls", request=hook)
    seen = _outcomes(behaviour, *NONE_RULES, "tools.choice.auto_default")
    assert [outcome for outcome, _ in seen.values()] == [*[none] * len(NONE_RULES), default]


def test_parallel_calls_are_looked_for_beyond_the_likeliest_answer() -> None:
    """The server drops the field, which only answers at a temperature show."""

    def hook(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        return body | {"parallel_tool_calls": body["temperature"] != 0}

    ids = ("effects.stream.parallel_tool_calls", "resp.effect.parallel_tool_calls")
    seen = _outcomes(Behaviour("parallel if hot", request=hook), *ids)
    assert seen == dict.fromkeys(ids, (Outcome.IGNORED, PARALLEL_DROPPED))


def test_calls_that_end_a_message_as_a_turn_are_one_finding() -> None:
    """The rules about whole and streamed messages name the same cause."""
    ids = ("messages.tool_use", "messages.stream.tool_use")
    wanted = (ids[0], "end_turn")
    mutant = next(m for m in mutants() if (m.check, m.behaviour.name) == wanted)
    seen = _outcomes(mutant.behaviour, *ids)
    assert seen == dict.fromkeys(ids, (Outcome.FAIL, "the stop_reason of a call is not tool_use"))
