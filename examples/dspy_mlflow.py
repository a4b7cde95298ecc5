"""Trace a DSPy program with MLflow 3: with DSPy's own language model, and with our engine.

pip install "pytest-llmengine[embedded,dspy,otel]" "mlflow>=3.17"
python examples/dspy_mlflow.py           # writes dspy-traces.db here, prints the traces
mlflow ui --backend-store-uri sqlite:///dspy-traces.db
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Use OpenTelemetry's global provider, so that the engine's spans are below DSPy's.
os.environ["MLFLOW_USE_DEFAULT_TRACER_PROVIDER"] = "false"
# Without this the engine's spans contain no prompts and answers.
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
# Without these litellm and DSPy download prices on import, and MLflow sends telemetry.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from typing import Literal

import dspy
import mlflow

from llmengine import EngineConfig
from llmengine.integrations.dspy import native_lm, to_lm


class Review(dspy.Signature):
    """Say whether the review is good or bad."""

    review: str = dspy.InputField()
    mood: Literal["good", "bad"] = dspy.OutputField()


def main(store: str = "dspy-traces.db") -> None:
    """Trace one program with both language models: an answer, and a prompt that is too long."""
    start_tracing(Path(store).resolve())
    engine = EngineConfig(backend="embedded", model="smollm2-135m", price={"gpu_hour": 2.5}).engine
    models = {
        "DSPy's own": native_lm(engine, declared=True, max_tokens=32),
        "ours": to_lm(engine, max_tokens=32),
    }
    for name, lm in models.items():
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            for review in ("I loved it.", "More than its context holds. " * 1_000):
                ask(name, review)
    mlflow.flush_trace_async_logging()
    for trace in mlflow.search_traces(return_type="list", order_by=["timestamp_ms ASC"]):
        show(trace)


def start_tracing(store: Path) -> None:
    """Write traces into one file, and their artifacts into a folder next to it."""
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    if mlflow.get_experiment_by_name("dspy") is None:
        mlflow.create_experiment("dspy", artifact_location=store.with_suffix("").as_uri())
    mlflow.set_experiment("dspy")
    mlflow.tracing.enable()
    mlflow.dspy.autolog()


def ask(name: str, review: str) -> None:
    """Run the program in a span with the name of the language model."""
    try:
        with mlflow.start_span(name) as span:
            mlflow.update_current_trace(tags={"lm": name})
            span.set_inputs({"review": review})
            mood = dspy.Predict(Review)(review=review).mood
            span.set_outputs({"mood": mood})
        print(f"{name}: {mood}")
    except Exception as error:  # noqa: BLE001 - DSPy's own LM raises errors of several libraries
        print(f"{name}: {type(error).__name__}: {str(error)[:90]}")


def show(trace: mlflow.entities.Trace) -> None:
    """Print one trace as MLflow returns it."""
    info = trace.info
    print(f"\n{info.state} {info.execution_duration} ms, tokens {info.token_usage}")
    for span in trace.data.spans:
        print(f"  {span.span_type} {span.name!r} {span.status.status_code.value}")
        print(f"    in   {str(span.inputs)[:90]!r}")
        print(f"    out  {str(span.outputs)[:90]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
