"""Checks of err.message: the message of an error is a sentence for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import control
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

BAD: tuple[dict[str, Any], ...] = (
    {"temperature": "hot"},
    {"messages": 7},
    {"messages": ...},
    {"model": "no-such-model"},
    {"response_format": "json"},
)
INTERNALS = {
    "a JSON document": r"""['"](?:error|message|detail|msg|loc)['"]\s*:""",
    "a type of Go": r"\bGo (?:struct|value)\b|cannot unmarshal",
    "an exception of Java": r"\b(?:java|org|com)(?:\.\w+)+(?:Error|Exception)\b",
    "an exception of Python": r"Traceback \(most recent|<class '|\b\w+\.\w*(?:Error|Exception)\b",
    "an exception of C++": r"\[json\.exception\.|std::\w+",
    "a panic of Rust": r"panicked at|unwrap\(\)",
    "the path of a source file": r"(?:/[\w.-]+)+\.(?:py|go|cc?|cpp|rs|java|js|ts)\b",
}


@check(
    "err.message.in_words",
    level=QUIRK,
    tier=EXTENDED,
    source="CWE-209: error messages that hold internals",
    since="2026-11-27",
    breaks="A program that shows the message to people shows them another server's error in JSON, "
    "or what the server is made of.",
)
def in_words(target: Target) -> None:
    """The message of an error holds no JSON document and no name from the server's own code."""
    control(target)
    replies = [target.chat(**{"max_tokens": 1} | bad) for bad in BAD]
    messages = [reply.error_message for reply in replies if not reply.ok and reply.error_message]
    if not messages:
        raise Unmeasured("no error has a message")
    for message in messages:
        for what, form in INTERNALS.items():
            expect(not re.search(form, message), f"a message holds {what}: {quote(message)}")
