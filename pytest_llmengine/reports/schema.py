"""The fields of the JSON report, from which its JSON Schema and the tables of its page are made.

``python tools/report_schema.py`` writes ``docs/report.schema.json`` and the tables of
``docs/report-schema.md``. The descriptions are Markdown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, SkipJsonSchema

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import Level

SCHEMA_VERSION = 1

AnyOutcome = Annotated[Outcome, Field(strict=False)]
AnyLevel = Annotated[Level, Field(strict=False)]
TierWord = Literal["smoke", "core", "extended"]


class JSONPart(BaseModel):
    """A part of the report; a reader ignores fields that it does not know."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class JSONProvenance(JSONPart):
    """What was tested, when and how."""

    engine: str = Field(description="the value of `--engine`")
    version: str | None = Field(
        description="the server's own version; null if it does not report one"
    )
    model: str = Field(description="the model of the run")
    mode: str = Field(description="`live`, `record`, `replay` or `docker`")
    describe: str = Field(
        description="where the answers come from, as text, with the date of a recording"
    )
    tier: str = Field(description="`smoke`, `core` or `extended`")
    date: str = Field(description="the start of the run, ISO 8601, UTC")
    tool_version: str = Field(description="the version of pytest-llmengine")
    name: str = Field(
        default="",
        description="what people call the server: the value of `--name`, else the server "
        "program (`LiteLLM`), else its host and port; absent in reports of older versions",
    )


class JSONSummary(JSONPart):
    """Counts."""

    checks: int = Field(description="number of selected checks, including those that were not run")
    accepted: int = Field(description="how many of them do not make the run fail")
    not_accepted: int = Field(
        description="how many make it fail; the exit status of `verify` is 1 if it is above 0"
    )
    findings: int | SkipJsonSchema[None] = Field(
        default=None,
        description="how many of `not_accepted` do not follow from an earlier verdict",
    )
    outcomes: dict[str, int] = Field(
        description="the count of each outcome; every outcome is present"
    )
    seconds: float = Field(description="the sum of the times of the checks")


class JSONExchange(JSONPart):
    """One HTTP request with its response."""

    method: str = Field(description="the method of the request")
    path: str = Field(description="the path of the request, without the base URL")
    root: bool = Field(
        default=False,
        description="true if the path is under the server's root, and not under the base URL; else "
        "absent",
    )
    request_headers: dict[str, str] = Field(
        default_factory=dict,
        description="the headers by which the request differs from other ones; one that is empty "
        "was not sent; absent if there are none",
    )
    request_body: str = Field(description="the request body")
    status: int | None = Field(description="the status; null if there was no answer")
    response_headers: dict[str, str] = Field(
        default_factory=dict, description="the response headers; cookies are masked"
    )
    response_body: str = Field(description="the response body, as text")
    seconds: float = Field(description="from the request to the end of the answer")


class JSONCheck(JSONPart):
    """The verdict of one check."""

    id: str = Field(description="never reused or renamed")
    group: str = Field(description="the group in which reports show the check")
    level: AnyLevel = Field(
        description="`required`, `expected`, `optional` or `quirk`: what the rule rests on"
    )
    tier: TierWord = Field(description="the tier that the check belongs to")
    outcome: AnyOutcome = Field(description="see below")
    reason: str = Field(description="why it did not pass; empty for a pass")
    accepted: bool = Field(description="whether the run may succeed with this outcome")
    seconds: float = Field(description="how long the check took")
    fact: str = Field(
        default="",
        description="the name of the cause, such as `POST /responses: 404 not found`; empty if it "
        "has none",
    )
    observed: AnyOutcome | SkipJsonSchema[None] = Field(
        default=None,
        description="the outcome before the profile was applied: `ignored` for a `deviates` that "
        "is known to be ignored",
    )
    follows: str = Field(
        default="",
        description="the id of the first verdict with the same `fact`; empty for the first one, "
        "and without a fact",
    )
    exchanges: list[JSONExchange] = Field(
        default_factory=list,
        description="the HTTP requests and responses; absent for a pass",
    )


class JSONReport(JSONPart):
    """The report of one run of the contract."""

    schema_version: Literal[1] = Field(
        description="increases when a field is renamed, removed, or changes its meaning"
    )
    provenance: JSONProvenance = Field(description="what was tested, when and how")
    summary: JSONSummary = Field(description="counts")
    checks: list[JSONCheck] = Field(
        description="one entry per check, in the order of the catalogue"
    )
    schema_features: dict[str, str] = Field(
        default_factory=dict,
        description="what the server does with each feature of JSON schemas, before the profile "
        "was applied; absent if no rule of `struct.matrix` was selected",
    )


class PublishedSchema(GenerateJsonSchema):
    """The schema without titles, which repeat names, and defaults, which are of this reader."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No field has a title."""
        del schema
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of the field, without its default."""
        return self.generate_inner(schema["schema"])


def report_schema() -> dict[str, Any]:
    """The JSON Schema of the report."""
    schema = JSONReport.model_json_schema(schema_generator=PublishedSchema)
    return {"$schema": PublishedSchema.schema_dialect, **schema}
