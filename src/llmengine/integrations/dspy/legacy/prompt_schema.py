"""The schema that a prompt of DSPy 2.4 asks its answer to fit."""

from __future__ import annotations

import json
from typing import Any

# TypedPredictor writes it at the end of the field's description, in the prompt's guidelines.
_MARK = "JSON Schema: "
_END = "---"  # of the guidelines


def asked_schema(prompt: str) -> dict[str, Any] | None:
    """The schema of the field that the prompt ends with; None if that may be any text.

    2.4 has no place for a schema but the prompt. The answer is the rest of the prompt: it is a
    JSON object and nothing else only where the last line opens the last of the fields, and the
    guidelines give that field a schema.
    """
    opening = prompt.rstrip().rpartition("\n")[2]
    _, found, described = prompt.partition(f"\n{opening} ")
    if not found or not opening.endswith(":"):
        return None
    text = described.partition(_MARK)[2].removeprefix("```json").lstrip()
    try:
        schema, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None  # a field without a schema
    is_last = text[end:].lstrip("\n`").startswith(_END)
    return schema if is_last and isinstance(schema, dict) else None
