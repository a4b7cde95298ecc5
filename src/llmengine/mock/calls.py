"""Which tools the mock calls, and values that fit a schema, made of words of the conversation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from zlib import crc32

from llmengine.mock.answers import obeyed
from llmengine.mock.schema import SchemaError, check_schema, instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.answers import Turn
    from llmengine.mock.ask import Ask, Tool

_WORD = re.compile(r"[a-z]{3,}")
_QUOTED = re.compile(r"(?<!\w)[\"“'`]([^\"”'`\n]{1,80})[\"”'`](?!\w)")
_NAME = re.compile(r"(?<=[\w,;:] )([A-ZÀ-ÖØ-Þ][\w-]+)")
_FILLER = frozenset({"and", "for", "the", "get", "with", "from", "this", "that", "what", "all"})


def wanted_calls(ask: Ask, fingerprint: str) -> list[tuple[str, str]]:
    """Names and JSON arguments of the calls to make; none where the answer is to be text."""
    words = hints(ask.turns)
    return [
        (tool.name, _arguments(tool, words[place:] + words[:place], fingerprint))
        for place, tool in enumerate(_chosen(ask))
    ]


def _chosen(ask: Ask) -> list[Tool]:
    named = [t for t in ask.tools if ask.named and t.name == ask.tool_choice]
    if named or not ask.tools or ask.tool_choice == "none":
        return named[:1]
    prompt = _prompt(ask.turns)
    relevant = [t for t in ask.tools if _words(f"{t.name} {t.description}") & _words(prompt)]
    if not relevant and ask.tool_choice != "required":
        return []
    if ask.tool_choice != "required" and obeyed(ask.turns) is not None:
        return []
    chosen = relevant or list(ask.tools[:1])
    if not ask.parallel or " and " not in prompt:
        return chosen[:1]
    return chosen if len(chosen) > 1 else chosen * 2


def _prompt(turns: Sequence[Turn]) -> str:
    return next((t.text for t in reversed(turns) if t.role == "user"), "")


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _FILLER


def hints(turns: Sequence[Turn]) -> list[str]:
    """What the prompt quotes, else the names in it: they make the strings of an answer."""
    prompt = _prompt(turns)
    return _QUOTED.findall(prompt) or _NAME.findall(prompt)


def _arguments(tool: Tool, words: Sequence[str], fingerprint: str) -> str:
    schema = {"type": "object", **tool.parameters}
    return _fitting(schema, words, fingerprint) or "{}"


def fitting_json(schema: Any, turns: Sequence[Turn], fingerprint: str) -> str | None:
    """JSON that fits the schema; None for a schema that no value fits, or that is none."""
    return _fitting(schema, hints(turns), fingerprint)


def _fitting(schema: Any, words: Sequence[str], fingerprint: str) -> str | None:
    try:
        check_schema(schema)
        value = instance(schema, words, seed=crc32(fingerprint.encode()))
    except SchemaError:
        return None
    return json.dumps(value, ensure_ascii=False)
