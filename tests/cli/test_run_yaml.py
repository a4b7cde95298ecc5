"""`llmengine run-yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "examples" / "engine_clinical_qa.yaml"


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a pipeline of one step for the server at that address."""

    def write(url: str, **change: Any) -> Path:
        engine = {"name": "main", "backend": "openai_compatible", "model": "mock", "endpoint": url}
        data = {
            "engines": [engine | {"max_concurrency": 1, "max_retries": 0}],
            "steps": [{"id": "ask", "engine": "main", "user_prompt": "{{ text }}"}],
            "inputs": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}],
        }
        path = tmp_path / "p.yaml"
        path.write_text(yaml.safe_dump(data | change), "utf-8")
        return path

    return write


def test_the_example_on_the_mock(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """All answered: a table with a row per step, the folder, and status 0."""
    ran = llmengine("run-yaml", EXAMPLE, "--engine", "mock", "--out", tmp_path)

    heading, extract, answer, total, last = ran.out.splitlines()
    assert ran.status == 0
    assert heading.split()[:4] == ["step", "engine", "answered", "failed"]
    assert extract.split()[:5] == ["extract", "mock", "4", "0", "4"]
    assert answer.split()[-1] == "unknown"
    assert total.split()[:4] == ["all", "8", "0", "8"]
    (folder,) = tmp_path.iterdir()
    assert last == f"4 records: 4 answered, 0 failed; all of it is in {folder}"
    assert ran.err.splitlines() == ["extract: 4 answered, 0 failed", "answer: 4 answered, 0 failed"]


def test_a_failed_record_is_status_1_and_resume_sends_it_again(
    llmengine: Callable[..., Any], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    """The failed record is printed, and only it is sent by a resumed run."""
    with MockServer(script=Script(faults=[Fault(status=400)])) as server:
        file = pipeline(server.root_url)
        ran = llmengine("run-yaml", file, "--out", tmp_path / "runs")
        (folder,) = (tmp_path / "runs").iterdir()
        again = llmengine("run-yaml", file, "--resume", folder)

    assert ran.status == 1
    assert "failed: record a: step ask: BadRequestError: " in ran.out
    assert "2 records: 1 answered, 1 failed" in ran.out
    assert again.status == 0
    assert again.err == "ask: 1 answered, 0 failed\n"
    assert [call.json["messages"][0]["content"] for call in server.calls] == ["one", "two", "one"]


def test_inputs_and_limit(
    llmengine: Callable[..., Any], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    """--input replaces the file's inputs, --limit takes the first records."""
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "three"}\n{"text": "four"}\n', "utf-8")
    with MockServer() as server:
        file = pipeline(server.root_url)
        llmengine("run-yaml", file, "--out", tmp_path / "r", "--input", other, "--limit", 1)
    assert [call.json["messages"][0]["content"] for call in server.calls] == ["three"]


def test_an_engines_file_replaces_the_engines_of_the_pipeline(
    llmengine: Callable[..., Any], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    """--config replaces an engine of the same name; --engine may name an engine of both files."""
    config = tmp_path / "e.yaml"
    with MockServer() as server:
        engine = {"backend": "vllm_api", "model": "mock", "endpoint": server.root_url}
        config.write_text(yaml.safe_dump([{"name": n} | engine for n in ("main", "x")]), "utf-8")
        for more in ([], ["--engine", "x"]):
            file = pipeline("http://127.0.0.1:1")
            ran = llmengine("run-yaml", file, "--config", config, "--out", tmp_path / "r", *more)
            assert ran.status == 0, ran.out
    assert len(server.calls) == 4


def test_models_of_the_working_directory(
    program: Callable[..., Any],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """package.module:Class is found in the working directory."""
    (tmp_path / "my_models.py").write_text(
        "from pydantic import BaseModel\nclass Word(BaseModel):\n    word: str\n", "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    step = {"id": "ask", "engine": "mock", "user_prompt": "x", "output_model": "my_models:Word"}
    file = pipeline("http://127.0.0.1:1", steps=[step])
    ran = program("run-yaml", file, "--engine", "mock", "--out", tmp_path / "runs")
    assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["none.yaml"], "none.yaml: cannot be read"),
        ([EXAMPLE, "--engine", "nobody"], "unknown engine 'nobody'"),
        ([EXAMPLE, "--engine", "vllm_api"], "engine 'vllm_api' has no model: add it"),
        ([EXAMPLE, "--engine", "mock", "--input", "none.jsonl"], "none.jsonl: cannot be read"),
        ([EXAMPLE, "--engine", "h100"], "KOYEB_KEY is not set"),
        ([EXAMPLE, "--config", "none.yaml"], "none.yaml: cannot be read"),
        ([EXAMPLE, "--engine", "mock", "--resume", "."], "is not the folder of a run"),
        ([EXAMPLE, "--resume", ".", "--limit", "1"], "a resumed run has its own inputs"),
        ([EXAMPLE, "--limit", "0"], "'--limit'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    llmengine: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    argv: list[object],
    message: str,
) -> None:
    """Nothing is sent and no folder is created."""
    monkeypatch.delenv("KOYEB_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    ran = llmengine("run-yaml", *argv)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("llmengine: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []
