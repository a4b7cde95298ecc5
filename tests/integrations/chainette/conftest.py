"""Chainette if it is installed, or else a stand-in, and chains of two steps."""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Warnings of Chainette and the libraries that it uses, which this project cannot fix.
_NOISE = ("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
_REAL = find_spec("chainette") is not None
_SOURCE = Path(os.environ.get("CHAINETTE_SOURCE", "")).absolute()  # before a test changes folders


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Chainette's own dependencies warn without failing a test of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for noise in _NOISE:
                item.add_marker(pytest.mark.filterwarnings(noise))


class Question(BaseModel):
    """The input of a chain."""

    text: str


class Answer(BaseModel):
    """The answer of the first step."""

    answer: str


class Grade(BaseModel):
    """The answer of the second step."""

    grade: Literal["good", "bad"]


def _forget() -> None:
    ours = "llmengine.integrations.chainette.registry"
    for name in [n for n in sys.modules if n.partition(".")[0] == "chainette" or n == ours]:
        del sys.modules[name]
    vars(sys.modules["llmengine.integrations.chainette"]).pop("registry", None)


@pytest.fixture
def chainette(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Chainette, imported again, because `install` and `register_engine` change it."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OLLAMA_", "VLLM_", "HOSTED_VLLM_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    if not _REAL:
        monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in"))
    importlib.import_module("llmengine.integrations.chainette")
    _forget()
    yield importlib.import_module("chainette")
    _forget()


@pytest.fixture
def real(chainette: Any) -> Path:
    """The checkout from which Chainette was installed; skips if it is the stand-in."""
    if not _REAL or "CHAINETTE_SOURCE" not in os.environ:
        pytest.skip("needs Chainette itself; run: CHAINETTE_SOURCE=<checkout> nox -s chainette")
    return _SOURCE


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server for one test."""
    with MockServer() as running:
        yield running


@pytest.fixture
def chain(chainette: Any) -> Callable[..., Any]:
    """Makes a chain that answers questions and grades the answers, on the engine ``main``."""

    def make(batch_size: int = 1, *, sampling: Any = None, **settings: Any) -> Any:
        sampling = sampling or chainette.SamplingParams(temperature=0.0)
        answer = chainette.Step(
            id="answer",
            name="Answer",
            engine_name="main",
            input_model=Question,
            output_model=Answer,
            sampling=sampling,
            system_prompt="Answer briefly.",
            user_prompt="{{chain_input.text}}",
            **settings,
        )
        grade = chainette.Step(
            id="grade",
            name="Grade",
            engine_name="main",
            input_model=Answer,
            output_model=Grade,
            sampling=sampling,
            user_prompt="{{answer.answer}}",
        )
        return chainette.Chain(name="QA", steps=[answer, grade], batch_size=batch_size)

    return make


@pytest.fixture
def questions() -> list[Question]:
    """Four items."""
    return [Question(text=text) for text in ("one", "two", "three", "four")]


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[str], list[Any]]:
    """The lines that the chain wrote for a step into the folder ``out``."""

    def read(step: str) -> list[Any]:
        files = sorted((tmp_path / "out" / step).glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]

    return read
