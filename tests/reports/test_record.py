"""Records, which carry the results of checks between processes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.types.secrets import register
from pytest_llmengine.reports import CheckRecord

if TYPE_CHECKING:
    from pytest_llmengine.contract.runner import CheckResult


def test_record_survives_json(results: list[CheckResult]) -> None:
    """Every kind of result is the same after a round trip through JSON."""
    for result in results:
        record = CheckRecord.of(result)
        assert CheckRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_record_has_the_facts_of_the_result(results: list[CheckResult]) -> None:
    """Id, group, level, tier, outcome, reason and acceptance come from the result."""
    row = CheckRecord.of(results[2]).to_dict()
    exchanges = row.pop("exchanges")
    assert row == {
        "id": "chat.stream.usage",
        "group": "chat.stream",
        "level": "required",
        "tier": "core",
        "outcome": "fail",
        "reason": "no usage in the last chunk",
        "accepted": False,
        "seconds": 0.25,
        "fact": "",
        "observed": "fail",
    }
    assert [e["status"] for e in exchanges] == [400]


def test_pass_keeps_no_exchange(results: list[CheckResult]) -> None:
    """A pass is one short line, without the exchange."""
    assert "exchanges" not in CheckRecord.of(results[0]).to_dict()


def test_key_and_cookie_never_reach_a_record(results: list[CheckResult]) -> None:
    """A key that was registered after the call is masked everywhere, and so is a cookie."""
    register("sk-sixteen-secret")
    leaky = replace(
        results[2].exchanges[0],
        request_body="sk-sixteen-secret",
        response_body="sk-sixteen-secret",
        response_headers={"x-echo": "Bearer sk-sixteen-secret", "Set-Cookie": "session=abc"},
    )
    result = replace(results[2], reason="401 for sk-sixteen-secret", exchanges=(leaky,))
    text = json.dumps(CheckRecord.of(result).to_dict())
    assert "sixteen" not in text
    assert "session=abc" not in text
    assert text.count("[redacted]") == 5


def test_overlong_body_is_cut_and_says_so(results: list[CheckResult]) -> None:
    """A body of a million characters does not make a long report."""
    long = replace(results[2].exchanges[0], request_body="x" * 1_000_000)
    record = CheckRecord.of(replace(results[2], exchanges=(long,)))
    body = record.exchanges[0]["request_body"]
    assert len(body) < 11_000
    assert body.endswith("(990000 more characters)")
