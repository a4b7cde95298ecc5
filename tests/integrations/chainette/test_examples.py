"""Chainette's own examples, unchanged: ``CHAINETTE_SOURCE=<checkout> nox -s chainette``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import EngineConfig
from llmengine.integrations.chainette import collect_skipped, install
from pytest_llmengine.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock import MockServer

# folder and file of the example, name of its chain, and steps with one answer per item
EXAMPLES = {
    "01_sentiment/chain.py": ("sentiment_chain", ["sentiment"]),
    "01_sentiment/ollama/chain.py": ("sentiment_chain", ["sentiment_1b", "sentiment_4b"]),
    "01_sentiment/openai/chain.py": ("sentiment_chain", ["sentiment"]),
    "01_sentiment/vllm/chain.py": ("sentiment_chain", ["sentiment"]),
    "02_fin_metrics/chain.py": ("fin_metrics_chain", ["extract"]),
    "03_translate_summary/chain.py": ("translate_chain", ["fr"]),  # it runs its first branch only
    "04_branch_math/chain.py": ("branching_chain", ["inc"]),
    "05_pure_python/chain.py": ("py_chain", ["double"]),
    "06_stream_big/chain.py": ("stream_chain", ["square"]),
    "07_multistep_rag/chain.py": ("rag_chain", ["retrieve", "answer"]),
    "09_clinical_qa/chain.py": ("clinical_chain", ["symptoms", "diagnosis", "followup"]),
    "10_eval_loop/chain.py": ("eval_chain", ["predict", "grade"]),
    "11_tool_use/chain.py": ("tool_use_chain", ["choose_tool", "execute_tool"]),
    "12_flagship/chain.py": (
        "flagship_chain",
        ["retrieve", "summarise", "translate_es", "translate_fr", "grade"],
    ),
    "12_flagship/ollama/chain.py": (
        "flagship_chain_ollama",
        ["retrieve", "summarise", "translate_es", "translate_fr", "grade"],
    ),
}
_SIBLINGS = ("chain", "retriever", "steps")


@pytest.fixture
def example(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], tuple[Any, list[Any]]]:
    """Loads an example's chain, and its inputs for the first node."""
    monkeypatch.setenv("OPENAI_API_KEY", "unused")

    def load(file: str, name: str) -> tuple[Any, list[Any]]:
        path = real / "examples" / file
        monkeypatch.syspath_prepend(str(path.parent))
        for sibling in _SIBLINGS:
            monkeypatch.delitem(sys.modules, sibling, raising=False)
        spec = importlib.util.spec_from_file_location("chain", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "chain", module)
        spec.loader.exec_module(module)
        chain = getattr(module, name)
        first = chain.steps[0][0].steps[0] if isinstance(chain.steps[0], list) else chain.steps[0]
        lines = (path.parent / "inputs.jsonl").read_text("utf-8").splitlines()
        return chain, [first.input_model.model_validate_json(x) for x in lines if x.strip()]

    return load


@pytest.mark.parametrize("file", EXAMPLES)
def test_example_on_the_mock(
    example: Callable[[str, str], tuple[Any, list[Any]]],
    server: MockServer,
    rows: Callable[[str], list[Any]],
    file: str,
) -> None:
    """Every step answers every item."""
    name, steps = EXAMPLES[file]
    install(EngineConfig(backend="openai_compatible", model="mock", endpoint=server.root_url))
    chain, inputs = example(file, name)

    chain.run(inputs, output_dir="out")

    assert inputs
    assert {step: len(rows(step)) for step in steps} == dict.fromkeys(steps, len(inputs))


@pytest.mark.parametrize("file", ["07_multistep_rag/chain.py", "11_tool_use/chain.py"])
@pytest.mark.filterwarnings("ignore::llmengine.integrations.chainette.SkippedItemsWarning")
def test_example_on_the_embedded_engine(
    example: Callable[[str, str], tuple[Any, list[Any]]],
    gguf: Path,
    rows: Callable[[str], list[Any]],
    file: str,
) -> None:
    """With a real model each item is answered by every step or reported as skipped."""
    name, steps = EXAMPLES[file]
    sampling = {"max_tokens": 120, "seed": 1}
    install(EngineConfig(backend="embedded", model="smollm2-135m", sampling=sampling))
    chain, inputs = example(file, name)

    with collect_skipped() as skipped:
        chain.run(inputs, output_dir="out")

    importlib.import_module("chainette.engine.broker").EngineBroker.flush(force=True)
    assert gguf.exists()
    missing = {item.row_id for item in skipped}
    assert len(rows(steps[-1])) == len(inputs) - len(missing)


def test_example_in_yaml(
    real: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chainette's YAML example by `llmengine run-yaml`, from the root of the checkout."""
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    out = Path("runs").absolute()
    monkeypatch.chdir(real)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = "examples/08_chatbot_yaml"

    status = main(
        [
            *("run-yaml", f"{folder}/chain.yml", "--input", f"{folder}/inputs.jsonl"),
            *("--engine", "mock", "--out", str(out)),
        ]
    )

    (made,) = out.iterdir()
    assert status == 0
    assert capsys.readouterr().out == f"2 items: 2 answered, 0 skipped; all of it is in {made}\n"
    assert len((made / "answer" / "0.jsonl").read_text("utf-8").splitlines()) == 2


def test_chainette_s_command(real: Path, server: MockServer, tmp_path: Path) -> None:
    """Chainette's own command on our engines, which the variables of OpenAI's SDK configure."""
    server_model = "gpt-4.1-mini"
    folder = real / "examples" / "01_sentiment" / "openai"
    with type(server)(model=server_model) as named:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "llmengine.integrations.chainette", "run"),
                *(str(folder / "chain.py"), "sentiment_chain", str(folder / "inputs.jsonl")),
                str(tmp_path / "out"),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "HF_HUB_OFFLINE": "1",
                "OPENAI_BASE_URL": named.base_url,
                "OPENAI_API_KEY": "unused",
            },
        )
        called = [call.json for call in named.calls if call.method == "POST"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert called[-1]["model"] == server_model
    (file,) = (tmp_path / "out" / "sentiment").glob("*.jsonl")
    assert all("sentiment" in json.loads(x) for x in file.read_text("utf-8").splitlines())
