"""MLflow's traces of a DSPy program, over DSPy's own language model and over ours."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llmengine import EngineConfig

EXAMPLE = Path(__file__).parents[3] / "examples" / "dspy_mlflow.py"
OURS, NATIVE = "ours", "DSPy's own"
LIMIT = 300  # seconds, for a machine that is busy


@pytest.fixture(scope="module")
def traces(embedded: EngineConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The traces of the example by language model and outcome, read from the store it wrote.

    It runs in a process of its own, since MLflow takes over the tracing of a whole process.
    """
    pytest.importorskip("mlflow", reason="MLflow is missing; run: nox -s dspy-latest")
    assert embedded.backend == "embedded"
    store = tmp_path_factory.mktemp("mlflow") / "traces.db"
    command = [sys.executable, str(EXAMPLE), str(store)]
    subprocess.run(command, cwd=store.parent, check=True, timeout=LIMIT)
    return {(t.data.spans[0].name, str(t.info.state)): t for t in _read(store)}


def _read(store: Path) -> list[Any]:
    """All traces in a store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow does with SQLAlchemy
        import mlflow  # noqa: PLC0415 - not in every environment

        mlflow.set_tracking_uri(f"sqlite:///{store}")
        experiment = mlflow.get_experiment_by_name("dspy").experiment_id
        found: list[Any] = mlflow.search_traces(locations=[experiment], return_type="list")
    return found


def _span(trace: Any, name: str) -> Any:
    return next(span for span in trace.data.spans if span.name == name)


def test_each_outcome_is_a_trace(traces: dict[Any, Any]) -> None:
    """An answer and an error of either language model are traces of that state."""
    states = {(name, state.rpartition(".")[2]) for name, state in traces}
    assert states == {(m, s) for m in (OURS, NATIVE) for s in ("OK", "ERROR")}


@pytest.fixture(params=[OURS, NATIVE])
def answered(request: pytest.FixtureRequest, traces: dict[Any, Any]) -> Any:
    """The trace of an answer."""
    return next(t for (m, s), t in traces.items() if m == request.param and s.endswith("OK"))


@pytest.fixture(params=[OURS, NATIVE])
def failed(request: pytest.FixtureRequest, traces: dict[Any, Any]) -> Any:
    """The trace of an error."""
    return next(t for (m, s), t in traces.items() if m == request.param and s.endswith("ERROR"))


def test_prompt_and_output_are_there(answered: Any) -> None:
    """The program's fields, and the messages and text of the language model below it."""
    program = _span(answered, "Predict.forward")
    assert program.inputs == {"review": "I loved it."}
    assert program.outputs["mood"] in {"good", "bad"}
    asked = _span(answered, "LM.__call__")
    assert asked.span_type == "CHAT_MODEL"
    assert "I loved it." in asked.inputs["messages"][-1]["content"]
    assert asked.outputs


def test_tokens_and_latency_are_there(answered: Any) -> None:
    """Tokens add up and are counted once, and every span has its time."""
    tokens = answered.info.token_usage
    assert tokens["input_tokens"] > 0
    assert tokens["output_tokens"] > 0
    assert tokens["total_tokens"] == tokens["input_tokens"] + tokens["output_tokens"]
    assert answered.info.execution_duration > 0
    assert all(span.end_time_ns > span.start_time_ns for span in answered.data.spans)


def test_the_error_is_there(failed: Any) -> None:
    """A prompt that does not fit the context ends the language model's span with that error."""
    span = _span(failed, "LM.__call__")
    assert span.status.status_code.value == "ERROR"
    assert "context" in str(span.events).lower()


def test_the_engine_adds_its_own_span(traces: dict[Any, Any]) -> None:
    """Below our span is the engine's span, with the model, the tokens and the cost."""
    trace = next(t for (m, s), t in traces.items() if m == OURS and s.endswith("OK"))
    chat = _span(trace, "chat smollm2-135m")
    assert chat.parent_id == _span(trace, "LM.__call__").span_id
    assert chat.attributes["gen_ai.provider.name"] == "llama.cpp"
    assert chat.attributes["llmengine.cost"] > 0
    assert chat.attributes["gen_ai.usage.output_tokens"] == trace.info.token_usage["output_tokens"]
