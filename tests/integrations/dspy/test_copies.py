"""Copies keep the engine, and programs with an engine can be saved and loaded."""

from __future__ import annotations

import copy
import pickle
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.integrations.dspy import Generation, to_lm
from llmengine.mock import Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import MockServer

COPIES: list[Any] = [
    pytest.param(lambda lm: lm.copy(), id="copy"),
    pytest.param(lambda lm: lm.copy(temperature=0.7), id="copy hotter"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_asks_the_same_engine(
    dspy: Any, answering: Callable[..., None], says: Callable[..., str], copied: Any
) -> None:
    """Copies share the engine, also one with its own server."""
    assert dspy
    with EngineConfig(backend="mock", model="mock").engine as engine:
        engine.server.play(Script(replies=["first", "second"]))
        lm = to_lm(engine)

        assert lm("One?") == ["first"]
        assert copied(lm)("Two?") == ["second"]
        assert len(engine.server.calls) == 2


def test_a_copy_has_its_own_settings_and_history(
    dspy: Any, config: EngineConfig, server: MockServer
) -> None:
    """Optimizers make copies with a higher temperature; the original does not change."""
    assert dspy
    lm = to_lm(config, temperature=0.0)

    hot = lm.copy(temperature=0.9)
    hot("Say the word: yes")
    lm("Say the word: yes")

    assert [call.json["temperature"] for call in server.calls] == [0.9, 0.0]
    assert [len(lm.history), len(hot.history)] == [1, 1]


def test_a_copied_program_keeps_its_model(
    dspy: Any, config: EngineConfig, answering: Callable[..., None]
) -> None:
    """reset_copy and deepcopy are what optimizers do to a program."""
    answering({"answer": "Paris"}, {"answer": "Rome"})
    program = _program(dspy)
    for predictor in program.predictors():
        predictor.lm = to_lm(config)

    answers = [twin(question="Where?").answer for twin in (program.deepcopy(), program)]

    assert answers == ["Paris", "Rome"]


def test_a_saved_program_of_2_4_takes_its_model_from_the_settings(
    legacy: Any, config: EngineConfig, answering: Callable[..., None], tmp_path: Path
) -> None:
    """2.4 writes the model into the file; ours writes nothing that could be loaded."""
    answering({"answer": "Paris"})
    program, path = _program(legacy), str(tmp_path / "program.json")
    program.predictors()[0].lm = to_lm(config)
    program.predictors()[0].demos = [legacy.Example(question="Q", answer="A")]

    program.save(path)
    loaded = _program(legacy)
    loaded.load(path)

    assert loaded.predictors()[0].lm is None
    assert loaded.predictors()[0].demos[0]["answer"] == "A"
    with legacy.settings.context(lm=to_lm(config)):
        assert loaded(question="Where?").answer == "Paris"


def test_a_saved_program_finds_its_server_again(
    modern: Any,
    generation: Generation,
    aim: Callable[..., EngineConfig],
    server: MockServer,
    answering: Callable[..., None],
    tmp_path: Path,
) -> None:
    """From 3.4 on the engine is loaded; earlier versions load DSPy's own LM for the server."""
    answering({"answer": "Paris"})
    program, path = _program(modern), str(tmp_path / "program.json")
    program.set_lm(to_lm(aim(server, api_key="secret-key-1"), temperature=0.5))

    program.save(path)
    loaded = _program(modern)
    loaded.load(path, **_trusting(loaded))

    assert "secret-key-1" not in (tmp_path / "program.json").read_text()
    if generation is Generation.FORWARD:
        loaded.predictors()[0].lm.kwargs["api_key"] = "secret-key-1"
    assert loaded(question="Where?").answer == "Paris"
    assert server.calls[-1].json["temperature"] == 0.5


def _trusting(program: Any) -> dict[str, bool]:
    """From 3.3 on DSPy must be allowed to load an address or a class from a file."""
    word = "allow_unsafe_lm_state"
    return {word: True} if word in signature(program.load).parameters else {}


def test_saving_without_secrets_is_logged(
    modern: Any, aim: Callable[..., EngineConfig], server: MockServer, caplog: Any
) -> None:
    """Keys and headers are not written, and the log says so."""
    assert modern
    lm = to_lm(aim(server, api_key="secret-key-2", headers={"X-Team": "secret-team"}))

    state = lm.dump_state()

    assert "secret" not in str(state)
    assert "engine 'openai_compatible'" in caplog.text


def test_an_engine_of_3_4_can_be_pickled(newest: Any, config: EngineConfig) -> None:
    """It can be pickled like DSPy's own, for programs in another process."""
    assert newest
    lm = pickle.loads(pickle.dumps(to_lm(config)))

    assert lm("Say the word: yes") == ["yes"]


def _program(dspy: Any) -> Any:
    """A module with one predictor."""

    class Program(dspy.Module):  # type: ignore[misc,name-defined]  # dspy has no types
        """Asks one question."""

        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            """The prediction."""
            return self.predict(question=question)

    return Program()
