"""The faults, replies and failures that users give to ``llmengine mock serve``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from llmengine.mock import Chaos, Fault
from llmengine.mock.script import check_reply
from llmengine.mock.stubs import RequestConditions
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


_WORDS = {"true": True, "false": False}


def parse_fault(text: str) -> Fault | None:
    """The fault in a text such as ``status=503,retry_after=1``; ``none`` is a call without a fault.

    A name without a value means true, as in ``malformed_json``. Several split positions are joined
    by ``+``, as in ``split_at=3+7``. Raises ConfigError that names the field.
    """
    if text == "none":
        return None
    return Fault(**_values("--fault", text, Fault, "fault"))


def parse_chaos(text: str) -> Chaos:
    """The failures by chance in a text such as ``status=0.1,cut=0.05,statuses=429+503``.

    Raises ConfigError that names the field.
    """
    return Chaos(**_values("--chaos", text, Chaos, "failure")) if text else Chaos()


def _values(option: str, text: str, kind: type[Fault | Chaos], what: str) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in fields(kind)}
    values = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in types:
            names = [*types, *(["none"] if kind is Fault else [])]
            raise ConfigError(
                f"{option}: unknown {what} {name!r}; the {what}s are {', '.join(names)}"
            )
        try:
            values[name] = _convert(types[name], value or "true")
        except (KeyError, ValueError):
            raise ConfigError(
                f"{option}: {name}={value or 'true'} is not a value of {name}, "
                f"which is {types[name]}"
            ) from None
    return values


def _convert(kind: str, text: str) -> Any:
    if kind.startswith("bool"):
        return _WORDS[text]
    if kind.startswith("str"):
        return text
    if kind.startswith("float"):
        return float(text)
    if kind.startswith("tuple") or ("tuple" in kind and "+" in text):
        return tuple(int(part) for part in text.split("+"))
    return int(text)


@dataclass(frozen=True, slots=True)
class ReplyByContent:
    """The conditions of `MockServer.when`, and the replies to what fits them."""

    when: Mapping[str, Any]
    replies: Sequence[Any]


def read_replies(path: Path) -> tuple[list[str | dict[str, Any]], list[ReplyByContent]]:
    """The replies in a file: those that are used in order, and those by content.

    Each line is a JSON string or object (the assistant's message, or the fields of `MockReply`), or
    an object with ``when`` and ``reply`` or ``replies``. Raises ConfigError that names the file and
    the line.
    """
    in_order: list[str | dict[str, Any]] = []
    by_content: list[ReplyByContent] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.strip():
            value = _reply(line, f"{path}:{number}")
            if isinstance(value, ReplyByContent):
                by_content.append(value)
            else:
                in_order.append(value)
    return in_order, by_content


def _reply(line: str, where: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}; write one reply per line") from error
    if not isinstance(value, str | dict):
        raise ConfigError(f"{where}: a reply is a JSON string or object, not {line.strip()}")
    try:
        if isinstance(value, dict) and "when" in value:
            return _by_content(value)
        check_reply(value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return value


_CONDITIONS = tuple(field.name for field in fields(RequestConditions) if field.name != "where")


def _by_content(value: dict[str, Any]) -> ReplyByContent:
    conditions, replies = value["when"], value.get("replies", [value.get("reply")])
    if not isinstance(conditions, dict) or not conditions.keys() <= set(_CONDITIONS):
        raise ConfigError(f"when is an object with any of {', '.join(_CONDITIONS)}")
    if value.keys() - {"when", "reply", "replies"} or not isinstance(replies, list):
        raise ConfigError("give an object with when, and with reply or a list of replies")
    RequestConditions(**conditions)
    for reply in replies:
        check_reply(reply)
    return ReplyByContent(conditions, replies)
