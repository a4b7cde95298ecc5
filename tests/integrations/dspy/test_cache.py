"""DSPy's cache over an engine; unlike DSPy's own, it keeps servers apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import to_lm
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig


def _ask(dspy: Any, lm: Any, question: str = "Where?") -> str:
    with dspy.settings.context(lm=lm):
        answer: str = dspy.Predict("question -> answer")(question=question).answer
    return answer


def test_nothing_is_cached_unless_asked_for(
    dspy: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """Without the cache the same question is a new request each time."""
    answering({"answer": "Paris"}, {"answer": "Rome"})
    lm = to_lm(config)

    assert [_ask(dspy, lm), _ask(dspy, lm)] == ["Paris", "Rome"]
    assert len(server.calls) == 2


def test_an_answer_is_cached_on_request(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """The second of two equal questions sends nothing, costs nothing and is in the history."""
    answering({"answer": "Paris"})
    lm = to_lm(config, cache=True)

    assert [_ask(modern, lm), _ask(modern, lm)] == ["Paris", "Paris"]
    assert len(server.calls) == 1
    assert [bool(entry["usage"]) for entry in lm.history] == [True, False]


def test_another_rollout_is_another_answer(
    modern: Any, config: EngineConfig, answering: Callable[..., None], server: MockServer
) -> None:
    """DSPy's argument that bypasses its cache works, and is not sent to the server."""
    answering({"answer": "Paris"}, {"answer": "Rome"})
    lm = to_lm(config, cache=True, temperature=1.0)

    answers = [_ask(modern, lm.copy(rollout_id=place)) for place in (1, 2, 1)]

    assert answers == ["Paris", "Rome", "Paris"]
    assert all("rollout_id" not in call.json for call in server.calls)


def test_two_servers_with_one_model_share_no_answers(
    modern: Any, aim: Callable[..., EngineConfig], says: Callable[..., str]
) -> None:
    """The same question to the same model at another address is a new request."""
    with MockServer() as here, MockServer() as there:
        here.play(Script(replies=[says(answer="here")]))
        there.play(Script(replies=[says(answer="there")]))

        answers = [_ask(modern, to_lm(aim(server), cache=True)) for server in (here, there)]

    assert answers == ["here", "there"]


@pytest.mark.parametrize(
    "fields", [{"sampling": {"top_k": 3}}, {"extra_body": {"top_k": 3}}], ids=["sampling", "body"]
)
def test_engines_that_ask_otherwise_share_no_answers(
    modern: Any,
    aim: Callable[..., EngineConfig],
    server: MockServer,
    answering: Callable[..., None],
    fields: dict[str, Any],
) -> None:
    """Settings of the configuration are part of the cache's key."""
    answering({"answer": "plain"}, {"answer": "changed"})

    answers = [_ask(modern, to_lm(aim(server, **f), cache=True)) for f in ({}, fields)]

    assert answers == ["plain", "changed"]


def test_a_failure_is_not_cached(
    modern: Any, config: EngineConfig, server: MockServer, says: Callable[..., str]
) -> None:
    """Failures are not cached."""
    from llmengine.mock import Fault  # noqa: PLC0415 - for one test

    server.play(Script(faults=[Fault(status=400)], replies=[says(answer="Paris")]))
    lm = to_lm(config, cache=True)

    with pytest.raises(Exception, match="400"):
        _ask(modern, lm)

    assert _ask(modern, lm) == "Paris"
