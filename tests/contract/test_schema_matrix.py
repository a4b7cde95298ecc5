"""The schema matrix: its table, and what the rules say of servers that show nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import report_tables  # in tools/
from jsonschema import Draft202012Validator

from llmengine.mock import Behaviour, MockServer
from llmengine.structured.features import KEYWORDS, LLAMA_CPP_IGNORES, VLLM_IGNORES, features_of
from llmengine.structured.schema import broken_features
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.facts import SCHEMA_DROPPED, either
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.schema_features import ORDER, SCHEMA_FEATURES, SchemaFeature

if TYPE_CHECKING:
    from llmengine import EngineConfig
    from pytest_llmengine.contract.runner import CheckResult

each_feature = pytest.mark.parametrize("row", SCHEMA_FEATURES, ids=lambda row: row.id)
# Of a union, the library learns what the best choice lacks.
_COMBINERS = frozenset({"anyOf", "oneOf", "allOf", "$ref"})
_HAND_DOWN = frozenset({"items", "prefixItems", "additionalProperties:schema"})


@each_feature
def test_the_violation_breaks_this_feature_alone(row: SchemaFeature) -> None:
    """It breaks the schema, and fits the schema without the feature."""
    Draft202012Validator.check_schema(row.schema)
    assert not row.fits(row.violation)
    if row.feature == ORDER:
        assert row.relaxed is None
    else:
        assert row.feature in features_of(row.schema)
        assert row.is_broken_by(row.violation)


@pytest.mark.parametrize(
    "row",
    [r for r in SCHEMA_FEATURES if r.keyword not in _COMBINERS | {"format"} and r.feature != ORDER],
    ids=lambda row: row.id,
)
def test_the_library_learns_the_feature_from_the_violation(row: SchemaFeature) -> None:
    """A server whose answer is the violation is known to ignore exactly this feature."""
    learned = "type" if row.feature in _HAND_DOWN else row.feature
    assert broken_features(json.dumps(row.violation), row.schema) == {learned}


def test_every_keyword_has_a_rule() -> None:
    """The table covers the vocabulary of the library; what properties say has its own keywords."""
    assert {row.keyword for row in SCHEMA_FEATURES} == KEYWORDS
    assert {row.feature for row in SCHEMA_FEATURES} >= LLAMA_CPP_IGNORES


def _outcome(rule: str, behaviour: Behaviour) -> CheckResult:
    with MockServer(behaviour=behaviour) as server, Target(server.base_url, server.model) as target:
        return run_check(catalogue()[f"struct.matrix.{rule}"], target, Profile("mock"))


def _saying(text: str, finish: str = "stop") -> Behaviour:
    def reply(body: Any, _: Any) -> Any:
        body["choices"][0]["message"]["content"] = text
        body["choices"][0]["finish_reason"] = finish
        return body

    return Behaviour("says one text", reply=reply)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason"),
    [
        (_saying('{"value": "red"}'), Outcome.UNMEASURED, "this model cannot show it"),
        (_saying('{"value": "', "length"), Outcome.UNMEASURED, "the token cap cut 3 of 3 answers"),
        (_saying("blue"), Outcome.IGNORED, "the answer is not JSON"),
        (_saying('{"value": "blue"}', "length"), Outcome.IGNORED, "enum is accepted and not"),
    ],
    ids=["never tempted", "always cut", "prose", "violates"],
)
def test_the_outcome_on_a_server_that_always_says_the_same(
    behaviour: Behaviour, outcome: Outcome, reason: str
) -> None:
    """An answer that fits says nothing if the model gives it without the feature too."""
    result = _outcome("enum", behaviour)
    assert result.observed is outcome
    assert reason in result.reason


def _dropping(keep: str = "") -> Behaviour:
    """A server that drops each response_format but those that have this text."""

    def request(body: Any, _: Any) -> Any:
        wanted = json.dumps(body.get("response_format"))
        return {
            k: v for k, v in body.items() if k != "response_format" or (keep and keep in wanted)
        }

    return Behaviour("drops schemas", request=request)


@pytest.mark.parametrize(
    ("server", "rule", "fact"),
    [
        (_dropping(), "enum", SCHEMA_DROPPED),
        (_dropping(), "ref", either("$ref: ignored", SCHEMA_DROPPED)),
        (_dropping("vermilion"), "ref", "$ref: ignored"),
        (_dropping("vermilion"), "format_email", "formats: ignored"),
        (_dropping("vermilion"), "format_ipv4", "formats: ignored"),
    ],
)
def test_the_cause_of_a_feature_that_is_ignored(server: Behaviour, rule: str, fact: str) -> None:
    """The answer to a simple schema tells whether the server drops every schema."""
    result = _outcome(rule, server)
    assert (result.observed, result.fact) == (Outcome.IGNORED, fact)


@pytest.mark.parametrize(("seed", "outcome"), [(3, Outcome.PASS), (4, Outcome.UNMEASURED)])
def test_each_seed_may_show_the_violation(seed: int, outcome: Outcome) -> None:
    """One sample that breaks the relaxed schema is enough, also if it is the last one."""

    def reply(body: Any, call: Any) -> Any:
        fits = call.json["seed"] < seed or "enum" in json.dumps(call.json["response_format"])
        body["choices"][0]["message"]["content"] = f'{{"value": "{"red" if fits else "blue"}"}}'
        return body

    result = _outcome("enum", Behaviour("is tempted by some seeds", reply=reply))
    assert result.observed is outcome


def _refusing(*, every: bool) -> Behaviour:
    def request(body: Any, _: Any) -> Any:
        wanted = body.get("response_format")
        if wanted and (every or "blue" not in json.dumps(wanted)):
            body["response_format"] = {"type": "not supported here"}
        return body

    return Behaviour("refuses schemas", request=request)


def test_a_server_without_schemas_is_refused_for_one_cause() -> None:
    """Every rule says the same of it, so a report counts it once."""
    results = [_outcome(rule, _refusing(every=True)) for rule in ("enum", "min_length")]
    assert {(r.observed, r.fact) for r in results} == {
        (Outcome.REFUSED, "JSON schemas are refused")
    }


@pytest.mark.parametrize("feature", sorted(LLAMA_CPP_IGNORES))
def test_the_shipped_knowledge_holds_for_the_embedded_server(
    embedded: EngineConfig, feature: str
) -> None:
    """llama.cpp still accepts and ignores what the library expects it to ignore."""
    rules = [row.id for row in SCHEMA_FEATURES if row.feature == feature]
    with Target(embedded.engine.base_url, embedded.model) as target:
        results = [
            run_check(catalogue()[f"struct.matrix.{rule}"], target, Profile("x")) for rule in rules
        ]
    assert {r.observed for r in results} == {Outcome.IGNORED}


@pytest.mark.parametrize(
    ("column", "ignored"), [("llama.cpp b11549", LLAMA_CPP_IGNORES), ("vllm 0.32.0", VLLM_IGNORES)]
)
def test_the_library_knows_what_the_reports_show(column: str, ignored: frozenset[str]) -> None:
    """It expects a server to ignore what the recorded server ignores."""
    verdicts = report_tables.feature_columns()[column]
    assert {row.feature for row in SCHEMA_FEATURES if verdicts[row.id] == "ignored"} == ignored
