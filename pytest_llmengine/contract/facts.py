"""The causes that rules of several groups find, by the names under which they count once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

AND = "; "
"""Stands between the facts of a verdict that has several causes."""
OR = " | "
"""Stands between the causes that a verdict may have; the first is the one that it shows."""

BEST_OF_NOT_COUNTED = "the usage does not count best_of"
CALL_LOST = "the finish reason is tool_calls without a call"
CUSTOM_DROPPED = "a custom tool is dropped | tools is dropped"
CODE_IS_NUMBER = "error.code is a number"
CODE_MISSING = "error.code is missing"
EFFORT_ACCEPTED = "an unknown effort of reasoning is accepted"
FIELDS_DROPPED = "fields that the server does not know are dropped"  # after the path
FORMAT_DROPPED = "response_format is dropped"
INCLUDE_DROPPED = "include is dropped"
LIMIT_NOT_KEPT = "max_tokens is not kept"
LOGPROBS_DROPPED = "logprobs is dropped"
LOGPROBS_NOT_LEGACY = "the logprobs of completions are not OpenAI's"
MARKUP = "the markup of calls is in the text"
N_DROPPED = "n is dropped"
NAME_IGNORED = "the name of the model is ignored"
NO_MESSAGE_START = "a stream of messages has no message_start"
NO_REFUSAL_KEY = "choices[].message.refusal is missing"
NOT_STORED = "responses are not stored"
NO_WHOLES = "no event has the whole of its deltas"
OBFUSCATION_DROPPED = "include_obfuscation is dropped"
OPTIONS_ALONE = "stream_options without stream is accepted"
PARALLEL_DROPPED = "parallel_tool_calls is dropped"
PARTS_DIFFER = "a text in parts is another prompt than the text"
REFUSED_IN_STREAM = "a bad request is refused in a stream with the status 200"
ROLE_DROPPED = "a message of an unknown role is dropped"
SCHEMA_DROPPED = f"the schema of response_format is dropped{OR}{FORMAT_DROPPED}"
STOP_DROPPED = "stop is dropped"
STRICT_DROPPED = "strict tools are not enforced"
TOKENS_BELOW_1 = "max_tokens below 1 is accepted"
USAGE_DROPPED = "include_usage is dropped"
TOOLS_DROPPED = "tools is dropped"
# A tool_choice has several forms, and a server may drop one of them and read the others.
_ALLOWED, _NAMED = "allowed_tools is dropped", "a named tool_choice is dropped"
_REQUIRED, _TEXT = "tool_choice required is dropped", "text comes before a call that is required"
ALLOWED_TOOLS_DROPPED = OR.join((_ALLOWED, _NAMED, _REQUIRED, TOOLS_DROPPED))
NAMED_CHOICE_DROPPED = OR.join((_NAMED, _ALLOWED, _REQUIRED, TOOLS_DROPPED))
NONE_CHOICE_DROPPED = "tool_choice none is dropped"
REQUIRED_CHOICE_DROPPED = OR.join((_REQUIRED, _TEXT, TOOLS_DROPPED))
TEXT_BEFORE_CALL = OR.join((_TEXT, _REQUIRED, TOOLS_DROPPED))
UNKNOWN_CHOICE = OR.join(("a tool_choice of an unknown type is accepted", _REQUIRED, TOOLS_DROPPED))
UNKNOWN_TOOL = (
    f"a tool_choice that names no tool of the request is accepted{OR}{NAMED_CHOICE_DROPPED}"
)
TOOL_TYPES_DROPPED = "tools of a type that the server does not know are dropped"  # after the path


def fields_dropped(path: str) -> str:
    """The fact that a route accepts fields that the server does not know, and drops them."""
    return f"{path}: {FIELDS_DROPPED}"


def lost_from(what: str, keys: Iterable[str]) -> str:
    """The fact that an object lacks these keys, such as a response or a message."""
    return together(f"{what}: {key} is missing" for key in keys)


def unknown_model_fact(status: int) -> str:
    """The fact that an unknown model is answered with this status, and not with 404."""
    return f"an unknown model is answered with {status}"


def together(names: Iterable[str]) -> str:
    """The fact of a verdict that has several causes; it follows if each of them is known."""
    return AND.join(sorted(set(names)))


def either(*names: str) -> str:
    """The fact of a verdict that shows the first cause, and follows from any of them."""
    return OR.join(names)


def shown(fact: str) -> str:
    """The fact for people: of the causes that a verdict may have, the one that it shows."""
    return AND.join(name.partition(OR)[0] for name in fact.split(AND))
