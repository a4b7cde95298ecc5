"""The constraint of sampling parameters: one, of a known kind and of the right type."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import InvalidRequestError, SamplingParams


@pytest.mark.parametrize(
    "constraint",
    [
        {"json": {"type": "object"}},
        {"json": '{"type": "object"}'},
        {"regex": r"\d+"},
        {"choice": ["yes", "no"]},
        {"grammar": 'root ::= "a"'},
        {"json_object": True},
        {"structural_tag": "{}"},
    ],
)
def test_one_constraint_of_each_kind(constraint: dict[str, Any]) -> None:
    """Each kind that vLLM knows today is kept as it is."""
    assert SamplingParams(structured_outputs=constraint).structured_outputs == constraint


def test_entries_that_ask_for_nothing_are_dropped() -> None:
    """Unset fields of vLLM's own class are None or False."""
    given = {"regex": "a", "choice": None, "json_object": False, "disable_any_whitespace": False}
    assert SamplingParams(structured_outputs=given).structured_outputs == {"regex": "a"}


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ({"regex": "a", "choice": ["b"]}, "regex and choice are given"),
        ({"guided_regex": "a"}, "'guided_regex' is unknown; known are json, regex"),
        ({"regex": "a", "disable_any_whitespace": True}, "structured-outputs-config"),
        ({"choice": []}, "'choice' must be a list of at least one text"),
        ({"choice": "yes"}, "'choice' must be a list"),
        ({"choice": ["a", 1]}, "'choice' must be a list"),
        ({"regex": 5}, "'regex' must be a regular expression"),
        ({"json": ["a"]}, "'json' must be a JSON schema"),
        ("yes|no", "give a mapping with one of json, regex"),
    ],
)
def test_a_wrong_constraint_names_what_is_wrong(constraint: Any, why: str) -> None:
    """Two at once, an unknown kind or a wrong type is an error before anything is sent."""
    with pytest.raises(InvalidRequestError, match=f"'structured_outputs' is .*{why}"):
        SamplingParams(structured_outputs=constraint)
