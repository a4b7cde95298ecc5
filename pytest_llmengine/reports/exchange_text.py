"""An HTTP exchange as text for readers: an indented body, and a command that repeats it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.types.printable import printable
from llmengine.types.secrets import MASK, is_secret_name
from pytest_llmengine.contract.outcomes import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_WIDTH = 88  # a value that fits in a line of this width is not broken into several lines
_DEPTH = 100  # deeper documents are shown as they are


def indented_json(text: str) -> str:
    """The JSON document with line breaks and indentation; any other text is unchanged.

    Only the space between the tokens is changed. Numbers and escapes stay as they were sent, and so
    do keys that occur twice.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    tokens = iter(_TOKEN.findall(text))
    try:
        return "\n".join(_lines(_value(next(tokens), tokens, 0), ""))
    except RecursionError:
        return text


# A value is a token, or the brackets of an array or object with the values between them; the name
# of a member is part of its value.
_Value = tuple[str, str, "list[_Value]", str]


def _value(first: str, rest: Iterator[str], depth: int) -> _Value:
    """The value that begins with the first token; its name is left empty."""
    if first not in {"{", "["}:
        return "", first, [], ""
    if depth > _DEPTH:
        raise RecursionError
    items: list[_Value] = []
    for word in rest:
        if word in {"}", "]"}:
            return "", first, items, word
        if word == ",":
            continue
        if first == "{":
            next(rest)  # the colon
            _, opening, inner, closing = _value(next(rest), rest, depth + 1)
            items.append((f"{word}: ", opening, inner, closing))
        else:
            items.append(_value(word, rest, depth + 1))
    raise AssertionError("a document that was parsed has its closing brackets")


def _flat(value: _Value) -> str:
    name, opening, items, closing = value
    return f"{name}{opening}{', '.join(map(_flat, items))}{closing}"


def _lines(value: _Value, indent: str) -> Iterator[str]:
    name, opening, items, closing = value
    flat = indent + _flat(value)
    if not items or len(flat) <= _WIDTH:
        yield flat
        return
    yield f"{indent}{name}{opening}"
    for place, item in enumerate(items, start=1):
        *lines, last = _lines(item, f"{indent}  ")
        yield from lines
        yield last if place == len(items) else f"{last},"
    yield indent + closing


@dataclass(frozen=True, slots=True)
class FoldedText:
    """The text of a body; ``rest`` is what is folded at first."""

    head: str
    rest: str = ""

    @property
    def rest_lines(self) -> int:
        """The number of lines that are folded."""
        return self.rest.count("\n") + 1 if self.rest else 0


_SHOWN_LINES = 24
_SHOWN_CHARACTERS = 1500


def folded(text: str) -> FoldedText:
    """The text, folded after the lines that fit on a screen."""
    lines = text.rstrip("\n").split("\n")
    shown = size = 0
    while shown < min(len(lines), _SHOWN_LINES) and size <= _SHOWN_CHARACTERS:
        size += len(lines[shown])
        shown += 1
    if len(lines) - shown <= 2:  # noqa: PLR2004 - a fold has the height of two lines
        shown = len(lines)
    return FoldedText("\n".join(lines[:shown]), "\n".join(lines[shown:]))


@dataclass(frozen=True, slots=True)
class ExchangeText:
    """One exchange; ``command`` repeats the request, "" if a command line cannot hold its body."""

    title: str
    command: str
    request: FoldedText
    headers: str
    response: FoldedText


def exchange_text(exchange: Mapping[str, Any], limit: int | None = None) -> ExchangeText:
    """The texts of an exchange of a record; bodies are cut after `limit` characters."""
    asked = indented_json(str(exchange.get("request_body", "")))
    answered = indented_json(str(exchange.get("response_body", "")))
    command = curl(exchange, asked)
    if limit is not None:
        asked, answered = shortened(asked, limit), shortened(answered, limit)
    return ExchangeText(
        title=_title(exchange),
        command=command if limit is None or len(command) <= max(limit, _SHOWN_CHARACTERS) else "",
        request=folded(asked),
        headers="\n".join(f"{name}: {value}" for name, value in _headers(exchange, "response"))
        if limit is None
        else "",
        response=folded(answered),
    )


def _title(exchange: Mapping[str, Any]) -> str:
    """The request line, the status and the time."""
    seconds = exchange.get("seconds")
    time = f", {seconds:.3f} s" if isinstance(seconds, int | float) else ""
    status = exchange.get("status")
    answer = "no answer" if status is None else f"{status}{time}"
    return f"{exchange.get('method', '')} {exchange.get('path', '')}: {answer}"


def _headers(exchange: Mapping[str, Any], side: str) -> list[tuple[str, str]]:
    """The headers of the request or the response; none in a report of another tool without them."""
    found = exchange.get(f"{side}_headers")
    pairs = found.items() if isinstance(found, dict) else ()
    return [(str(name), str(value)) for name, value in pairs]


_CUT = re.compile(r"\.\.\. \(\d+ more characters\)\Z")


def curl(exchange: Mapping[str, Any], body: str) -> str:
    """The command line that sends a request again, "" if a shell's word cannot hold its body.

    The address and the key are read from OPENAI_BASE_URL and OPENAI_API_KEY.
    """
    method, path = str(exchange.get("method", "")), str(exchange.get("path", ""))
    parts = (method, path, body)
    if any(printable(part) != part or "\ufffd" in part for part in parts) or _CUT.search(body):
        return ""
    given = {name.lower(): value for name, value in _headers(exchange, "request")}
    headers = {"authorization": f"Bearer {MASK}"} | given
    if body:
        headers.setdefault("content-type", "application/json")
    words = ["curl -sSgN"]
    if method not in {"GET", "POST"} or (method == "POST") != bool(body):
        words[0] += f" -X {_quoted(method)}"
    base = "${OPENAI_BASE_URL%/v1}" if exchange.get("root") else "$OPENAI_BASE_URL"
    words[0] += f' "{base}"{_quoted(path)}'
    words += [f"-H {_header(name, value)}" for name, value in headers.items() if value]
    if body:
        words.append(f"--data-raw {_quoted(body)}")
    return " \\\n  ".join(words)


def _header(name: str, value: str) -> str:
    if value.endswith(MASK) and is_secret_name(name, "header"):
        return f'"{name}: {value.removesuffix(MASK)}$OPENAI_API_KEY"'
    return _quoted(f"{name}: {value}")


_PLAIN = re.compile(r"[\w./:@%+=,-]+", re.ASCII)


def _quoted(text: str) -> str:
    r"""The text as one word of a shell; a single quote in it becomes ``'\''``."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", r"'\''") + "'"
