"""`llmengine run-yaml` on a chain of Chainette."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError
from llmengine.mock import MockServer, Script
from llmengine.pipeline import load_pipeline
from pytest_llmengine.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS = """
from pydantic import BaseModel
from chainette import ApplyNode, SamplingParams, Step, register_engine

register_engine(
    "bot", backend="openai", model="mock", api_key="unused", endpoint={endpoint!r},
    structured="json_schema", max_concurrency=1,
)

class Question(BaseModel):
    question: str

class Answer(BaseModel):
    answer: str

def shout(item):
    return [Answer(answer=item.answer.upper())]

answer_step = Step(
    id="answer", name="Answer", input_model=Question, output_model=Answer, engine_name="bot",
    sampling=SamplingParams(temperature=0.2), user_prompt="{{{{chain_input.question}}}}",
)
shout_node = ApplyNode(shout, id="shout", input_model=Answer)
"""
CHAIN = "name: Support Bot\nsteps:\n  - support_steps:answer_step\n  - support_steps:shout_node\n"


@pytest.fixture
def bot(chainette: Any, server: MockServer, tmp_path: Path) -> Iterator[MockServer]:
    """The files of a chain in the current folder, and the server of its engine."""
    Path("support_steps.py").write_text(STEPS.format(endpoint=server.root_url), "utf-8")
    Path("chain.yml").write_text(CHAIN, "utf-8")
    Path("in.jsonl").write_text('{"question": "one"}\n{"question": "two"}\n', "utf-8")
    before = list(sys.path)
    yield server
    sys.modules.pop("support_steps", None)
    sys.path[:] = before


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; returns its exit status and its output."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["run-yaml", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def _written(step: str) -> list[Any]:
    (folder,) = Path("runs").iterdir()
    (file,) = (folder / step).glob("*.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_chain_runs(bot: MockServer, run: Callable[..., tuple[int, str, str]]) -> None:
    """The steps and functions run over the inputs, and Chainette writes its own files."""
    bot.play(Script(['{"answer": "a"}', '{"answer": "b"}']))

    status, out, _ = run("chain.yml", "--input", "in.jsonl")

    (folder,) = Path("runs").iterdir()
    assert out == f"2 items: 2 answered, 0 skipped; all of it is in {folder}\n"
    assert status == 0
    assert folder.name.endswith("-Support-Bot")
    assert [row["answer"] for row in _written("shout")] == ["A", "B"]


def test_names_of_a_module(bot: MockServer, run: Callable[..., tuple[int, str, str]]) -> None:
    """Names without a module are looked up in --symbols-module, as in Chainette's command."""
    Path("chain.yml").write_text("name: Bot\nsteps: [answer_step, shout_node]\n", "utf-8")

    status, out, _ = run(
        "chain.yml", "--input", "in.jsonl", "--symbols-module", "support_steps", "--limit", "1"
    )

    assert (status, out.partition(";")[0]) == (0, "1 item: 1 answered, 0 skipped")


def test_on_another_engine(bot: MockServer, run: Callable[..., tuple[int, str, str]]) -> None:
    """--engine replaces the engines that the steps name."""
    status, _, _ = run("chain.yml", "--input", "in.jsonl", "--engine", "mock")

    assert status == 0
    assert bot.calls == []


def test_engines_file_goes_over(bot: MockServer, run: Callable[..., tuple[int, str, str]]) -> None:
    """An engine in --config replaces the one with its name."""
    with MockServer(model="other") as other:
        Path("engines.yaml").write_text(
            "- {name: bot, backend: openai_compatible, model: other, "
            f"endpoint: '{other.root_url}'}}\n",
            "utf-8",
        )
        status, _, _ = run("chain.yml", "--input", "in.jsonl", "--config", "engines.yaml")

    assert status == 0
    assert bot.calls == []
    assert other.calls


def test_skipped_item_is_status_1(
    bot: MockServer, run: Callable[..., tuple[int, str, str]]
) -> None:
    """The item is reported with its step and its reason, and it is in the folder."""
    bot.play(Script([{"refusal": "No."}, '{"answer": "b"}']))

    status, out, _ = run("chain.yml", "--input", "in.jsonl")

    first, last = out.splitlines()
    assert status == 1
    assert first.startswith("skipped: row 0 at step 'answer': RefusedError: ")
    assert last.startswith("2 items: 1 answered, 1 skipped; all of it is in runs/")
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "skipped.jsonl").read_text("utf-8"))["row_id"] == 0
    assert [row["answer"] for row in _written("shout")] == ["B"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "has no inputs; add --input"),
        (("--resume", "runs/x"), "cannot be resumed"),
        (
            ("--input", "bad.jsonl"),
            "bad.jsonl: line 1: is not a Question: question: ",
        ),
        (("--input", "empty.jsonl"), "there are no inputs"),
        (("--input", "in.jsonl", "--symbols-module", "nowhere"), "the module 'nowhere'"),
    ],
)
def test_wrong_call(
    bot: MockServer,
    run: Callable[..., tuple[int, str, str]],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """The error says in one line what to change; nothing is sent, and no folder is made."""
    Path("bad.jsonl").write_text('{"qestion": "one"}\n', "utf-8")
    Path("empty.jsonl").write_text("\n", "utf-8")

    status, _, err = run("chain.yml", *arguments)

    assert status == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert bot.calls == []
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("[support_steps:nothing]", "AttributeError"),
        ("[answer_step]", "KeyError"),
        ("[nowhere:answer_step]", "ModuleNotFoundError"),
    ],
)
def test_name_that_is_not_there(
    bot: MockServer, run: Callable[..., tuple[int, str, str]], steps: str, said: str
) -> None:
    """The error names the file and the reason."""
    Path("chain.yml").write_text(f"name: Bot\nsteps: {steps}\n", "utf-8")

    status, _, err = run("chain.yml", "--input", "in.jsonl")

    assert status == 2
    assert err.startswith(f"llmengine: chain.yml: cannot be loaded: {said}")


@pytest.mark.skipif(find_spec("chainette") is not None, reason="Chainette is installed")
def test_without_chainette(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """The error says that the file is a chain of Chainette, and what is missing."""
    path = tmp_path / "chain.yml"
    path.write_text(CHAIN, "utf-8")

    status, _, err = run(str(path), "--input", "in.jsonl")

    assert status == 2
    assert "chain.yml: its steps are names of objects, so it is a chain of Chainette: " in err
    assert "chainette is not installed" in err


def test_symbols_module_is_for_chains_of_chainette(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """A pipeline of ours has no such names, so the option is refused and not ignored."""
    path = tmp_path / "p.yaml"
    path.write_text("steps: [{id: a, engine: mock, user_prompt: x}]\ninputs: [{}]\n", "utf-8")

    status, _, err = run(str(path), "--symbols-module", "m")

    assert status == 2
    assert "--symbols-module is for a chain of Chainette" in err


def test_load_pipeline_names_the_command(tmp_path: Path) -> None:
    """In Python such a file is not a pipeline, and the error says what runs it."""
    path = tmp_path / "chain.yml"
    path.write_text(CHAIN, "utf-8")

    with pytest.raises(ConfigError, match=r"names of Python objects.*llmengine run-yaml"):
        load_pipeline(path)
