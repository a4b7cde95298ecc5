"""The fields of the JSON report of ``llmengine bench``, and its JSON Schema.

``python tools/report_schema.py`` writes ``docs/bench.schema.json``. The descriptions are Markdown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pytest_llmengine.bench.samples import Metric
from pytest_llmengine.bench.workload import Arrivals
from pytest_llmengine.reports.schema import JSONPart, PublishedSchema

_Arrivals = Annotated[Arrivals, Field(strict=False)]
_Metric = Annotated[Metric, Field(strict=False)]


class JSONPercentile(JSONPart):
    """A percentile with its 95% confidence interval; a null stands for requests that failed."""

    value: float | None = Field(description="the percentile in seconds")
    low: float | None = Field(description="the lower end of the interval")
    high: float | None = Field(description="the upper end of the interval")


class JSONQuantity(JSONPart):
    """The percentiles of a metric; null if there are too few samples."""

    samples: int = Field(description="the number of values")
    p50: JSONPercentile | None = Field(description="the median")
    p90: JSONPercentile | None = Field(description="the 90th percentile")
    p99: JSONPercentile | None = Field(description="the 99th percentile")


class JSONFailure(JSONPart):
    """Requests that failed in the same way."""

    kind: str = Field(description="the kind of error")
    count: int = Field(description="how many requests")
    example: str = Field(description="the message of one of them")


class JSONOfferedLoad(JSONPart):
    """When requests were sent."""

    seconds: float = Field(description="how long each rate was measured")
    warm_up: float = Field(description="how many seconds it lasted before that")
    arrivals: _Arrivals = Field(description="how the times between requests were chosen")
    seed: int = Field(description="the seed of the times and of the built-in prompts")


class JSONOverhead(JSONPart):
    """What the client adds, measured at a server that does nothing."""

    rate: float = Field(description="requests per second")
    answers: int = Field(description="how many answers there were")
    first_token: JSONQuantity = Field(description="how much too late the first token was seen")
    gap: JSONQuantity = Field(description="how wrong the times between tokens were, as an amount")
    cpu_per_answer: float = Field(description="the CPU time of the client per answer, in seconds")


class JSONRate(JSONPart):
    """One rate. Numbers are those of the measured time, after the warm-up."""

    rate: float = Field(description="the request rate: requests per second")
    requests: int = Field(description="how many requests were scheduled")
    answered: int = Field(description="how many of them have a complete answer")
    failures: list[JSONFailure] = Field(description="the others")
    throughput: float | None = Field(
        description="answers per second; null if the client stopped early"
    )
    goodput: float | None = Field(
        description="answers per second that met all objectives; null if there are no objectives, "
        "or if they cannot be judged"
    )
    output_tokens_per_second: float | None = Field(
        description="the tokens of these answers; null if the server does not report all"
    )
    sustained: bool | None = Field(
        description="whether at most 5% of the requests failed, and the queue did not grow in the "
        "second half of the measured time; null if the client was the limit"
    )
    in_flight: int = Field(description="the largest number of requests at once")
    client_cpu: float = Field(description="the share of a CPU core that the client used")
    client_limit: str = Field(
        description="why the client and not the server was the limit; empty if it was not"
    )
    without_usage: int = Field(description="the answers without a number of tokens")
    in_one_read: int = Field(description="the answers of several tokens that came all at once")
    latencies: dict[_Metric, JSONQuantity] = Field(
        description="the latencies by metric; empty if the client was the limit"
    )
    slowest_ttft: list[float | None] = Field(
        description="the longest time to first token in each of 20 parts of the measured time; "
        "null for a part without answers"
    )


class JSONBenchReport(JSONPart):
    """The report of `llmengine bench`. Times are in seconds."""

    schema_version: Literal[1] = Field(
        description="raised when a field is renamed or removed; new fields do not change it"
    )
    tool_version: str = Field(description="the version of pytest-llmengine")
    date: str = Field(description="when the run began, ISO 8601, UTC")
    target: str = Field(description="the server")
    model: str = Field(description="the model")
    prompts: str = Field(description="what was asked")
    max_tokens: int = Field(description="the largest number of tokens of an answer")
    load: JSONOfferedLoad = Field(description="when requests were sent")
    objectives: dict[_Metric, float] = Field(
        description="the service level objectives: the longest time by metric"
    )
    is_interrupted: bool = Field(description="whether further rates were planned")
    overhead: JSONOverhead = Field(description="what the client adds")
    rates: list[JSONRate] = Field(description="the rates in the order in which they were measured")


def bench_schema() -> dict[str, Any]:
    """The JSON Schema of the report."""
    schema = JSONBenchReport.model_json_schema(schema_generator=PublishedSchema)
    return {"$schema": PublishedSchema.schema_dialect, **schema}
