"""The fields of the JSON reports of ``drift check`` and ``drift watch``, and their JSON Schema.

``python tools/report_schema.py`` writes ``docs/drift.schema.json``. The descriptions are Markdown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from pytest_llmengine.drift.baseline import DriftTier, DriftUnit
from pytest_llmengine.drift.report import DriftVerdict
from pytest_llmengine.reports.schema import JSONPart, PublishedSchema

_Verdict = Annotated[DriftVerdict, Field(strict=False)]
_Unit = Annotated[DriftUnit, Field(strict=False)]
_Tier = Annotated[DriftTier, Field(strict=False)]


class JSONServerFacts(JSONPart):
    """What a server states about itself; null if a fact is not known."""

    name: str = Field(description="the engine's name, which opens it again")
    backend: str = Field(description="the backend")
    url: str | None = Field(description="the address that was given, unless it holds a key")
    server: str | None = Field(description="the server program")
    version: str | None = Field(description="its version")
    model: str | None = Field(description="the model")
    weights: str | None = Field(description="a hash or a name of the loaded weights")
    context: int | None = Field(description="the context in tokens")


class JSONDriftBaseline(JSONPart):
    """The baseline."""

    file: str | None = Field(description="the file that it was read from")
    date: str = Field(description="when it was recorded, ISO 8601")
    tool_version: str = Field(description="the version of pytest-llmengine that recorded it")
    self_test: float | None = Field(
        description="the p-value of the hypothesis that its sessions do not differ; null if there "
        "are too few"
    )
    load_dependence: float | None = Field(
        description="the p-value of the hypothesis that its answers do not depend on the number of "
        "requests in flight; null if there are too few"
    )
    tolerance: float | None = Field(
        description="the distance up to which a difference counts as none, in prompts; null if "
        "none was given"
    )
    facts: JSONServerFacts = Field(description="the server")


class JSONCost(JSONPart):
    """What the check or the look cost."""

    requests: int = Field(description="all requests, with those that failed")
    prompt_tokens: int = Field(description="the tokens of the prompts, as the server counts them")
    completion_tokens: int = Field(description="the tokens of the answers")


class JSONNamedChange(JSONPart):
    """A likely cause of a change; it is not part of the verdict."""

    name: str = Field(description="the cause")
    seen: str = Field(description="what was seen")


class JSONDriftFinding(JSONPart):
    """What needs no statistics, since a server that has not changed never does it."""

    name: str = Field(description="the kind of finding")
    detail: str = Field(description="what was found")
    prompt: str | None = Field(description="the prompt; null if it is not about one")


class JSONEvidenceRow(JSONPart):
    """The test of one kind of evidence."""

    evidence: str = Field(description="the kind of evidence")
    p_value: float | None = Field(description="the p-value; null if it was not compared")
    adjusted: float | None = Field(description="the p-value after Holm's correction")
    distance: float | None = Field(description="the energy distance, in prompts")
    units: tuple[int, int] = Field(
        description="the number of units of the baseline and of the candidate", strict=False
    )
    would_see: str = Field(
        description="the smallest change that is found in 95% of checks of this size, in words"
    )
    note: str = Field(description="why it was not compared, or what else is to be known")


class JSONDriftCandidate(JSONPart):
    """The server that was checked."""

    facts: JSONServerFacts = Field(description="the server")


class JSONDriftReport(JSONPart):
    """What the reports of both commands have."""

    schema_version: Literal[1] = Field(
        description="raised when a field is renamed or removed; new fields do not change it"
    )
    verdict: _Verdict = Field(description="`same`, `changed` or `cannot tell`")
    reason: str = Field(description="why, in words")
    alpha: float = Field(description="the false-alarm rate")
    tier: _Tier = Field(description="`logprobs`, `text` or `weights`")
    unit: _Unit = Field(description="what may change places: `round` or `session`")
    baseline: JSONDriftBaseline = Field(description="the baseline")
    candidate: JSONDriftCandidate | None = Field(
        description="the server; null if nothing was asked"
    )
    named_changes: list[JSONNamedChange] = Field(description="likely causes of a change")
    cost: JSONCost = Field(description="what the check or the last look cost")


class JSONCheckReport(JSONDriftReport):
    """The report of `llmengine drift check`."""

    hypothesis: str = Field(description="what is tested")
    rows: list[JSONEvidenceRow] = Field(description="the test of each kind of evidence")
    findings: list[JSONDriftFinding] = Field(description="what was found without statistics")


class JSONWatchRow(JSONPart):
    """All looks at one kind of evidence."""

    evidence: str = Field(description="the kind of evidence")
    tolerance: float = Field(description="the distance up to which a difference counts as none")
    calibration: list[float] = Field(description="the scores of the baseline, in prompts")
    scores: list[float] = Field(description="the score of each unit of each look that counts")
    e_values: list[float] = Field(description="the e-value after each of these units")
    highest: float = Field(description="the largest e-value until now")
    alarm: str | None = Field(description="the date of the look that reached the limit")
    looks_to_alarm: int | None = Field(
        description="how many looks find a change that is larger than all scores until now; null "
        "if it takes more than 365"
    )


class JSONLook(JSONPart):
    """One look."""

    date: str = Field(description="when it began, ISO 8601, UTC")
    changed: bool = Field(description="whether this look or an earlier one has an alarm")
    error: str = Field(description="why the look does not count; empty if it does")
    findings: list[str] = Field(description="what it found without statistics")
    cost: JSONCost = Field(description="what it cost")


class JSONWatchReport(JSONDriftReport):
    """The report of `llmengine drift watch`."""

    limit: float = Field(description="the e-value at which a kind of evidence alarms")
    journal: str | None = Field(description="the file of the looks")
    earlier_looks: int = Field(description="how many looks the journal has at earlier baselines")
    note: str = Field(description="what was odd about the journal; empty if nothing")
    rows: list[JSONWatchRow] = Field(description="the kinds of evidence")
    looks: list[JSONLook] = Field(description="all looks at this baseline")


def drift_schema() -> dict[str, Any]:
    """The JSON Schema of both reports."""
    reports: TypeAdapter[Any] = TypeAdapter(JSONCheckReport | JSONWatchReport)
    schema = reports.json_schema(schema_generator=PublishedSchema)
    return {"$schema": PublishedSchema.schema_dialect, **schema}
