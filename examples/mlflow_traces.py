"""Trace an engine's calls with MLflow 3, in a local store.

pip install "pytest-llmengine[embedded,otel]" "mlflow>=3.17"
python examples/mlflow_traces.py                 # writes traces.db here, prints the traces
mlflow ui --backend-store-uri sqlite:///traces.db
"""

from __future__ import annotations

import os
import sys

# Use OpenTelemetry's global provider, so that MLflow gets the spans of all libraries.
os.environ["MLFLOW_USE_DEFAULT_TRACER_PROVIDER"] = "false"
# Without this the spans contain no prompts and answers.
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"

import mlflow

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import Fault, Script


def main(store: str = "sqlite:///traces.db") -> None:
    """Trace calls that succeed, stream, retry and fail; then read the traces."""
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("llmengine")
    mlflow.tracing.enable()

    real = EngineConfig(backend="embedded", model="smollm2-135m", price={"gpu_hour": 2.5}).engine
    sampling = SamplingParams(temperature=0, max_tokens=12)
    with mlflow.start_span("three questions") as span:
        span.set_inputs({"purpose": "show a batch under the caller's own span"})
        real.generate(["Say hello.", "Name a colour.", "Name a fruit."], sampling)
    text = "".join(delta.text for delta in real.stream("Count to five.", sampling))
    print("streamed:", text)
    real.results(["More than its context holds. " * 1_000], sampling)

    mock = EngineConfig(backend="mock", model="mock", price={"input": 1, "output": 4}).engine
    mock.server.play(Script(faults=[Fault(status=503)]))
    mock.results(["Answered at the second attempt."])

    mlflow.flush_trace_async_logging()
    for trace in mlflow.search_traces(return_type="list", order_by=["timestamp_ms ASC"]):
        show(trace)


def show(trace: mlflow.entities.Trace) -> None:
    """Print one trace as MLflow returns it."""
    info = trace.info
    print(f"\n{info.state} {info.execution_duration} ms, tokens {info.token_usage}")
    for span in trace.data.spans:
        status = span.status
        print(f"  {span.span_type} {span.name!r} {status.status_code.value} {status.description}")
        print(f"    in   {str(span.inputs)[:100]}")
        print(f"    out  {str(span.outputs)[:100]}")
        print(f"    cost {span.attributes.get('llmengine.cost')}", end=", ")
        print(f"events {[event.name for event in span.events]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
