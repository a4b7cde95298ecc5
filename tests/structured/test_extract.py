"""Extracting JSON from an answer that has other text too."""

from __future__ import annotations

import pytest

from llmengine.structured.validation import first_json


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', '{"a": 1}'),
        (" [1, 2]\n", "[1, 2]"),
        ('"text"', '"text"'),
        ('Sure! {"a": {"b": [1]}} Anything else?', '{"a": {"b": [1]}}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('See [1]:\n```\n{"a": 1}\n```\n', '{"a": 1}'),
        ('```python\nprint(1)\n```\n{"a": 1}', '{"a": 1}'),
        ('First {"a": 1}, then {"a": 2}', '{"a": 1}'),
        ('Use {name} like {"a": 1}', '{"a": 1}'),
        ('Maybe {"a": 0}? No. </think> {"a": 1}', '{"a": 1}'),
        ('{"a": "}{"}', '{"a": "}{"}'),
        ('{"a": 1', '{"a": 1'),
        ("The answer is 5.", "The answer is 5."),
        ("", ""),
        ("[" * 5000 + '{"a": 1}', "[" * 5000 + '{"a": 1}'),
    ],
)
def test_first_whole_value_is_found(text: str, found: str) -> None:
    """A value that is cut or missing leaves the text as it is, which then fails the validation."""
    assert first_json(text) == found
