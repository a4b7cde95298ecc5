"""What the chat formats share when they build requests and read answers.

The file holds the functions that turn sampling parameters into fields of a request body, the
readers and errors for parts of an answer that several formats have in common, and the reader of
the headers that say how long to wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects.fields import (
    FieldError,
    number,
    objects,
    quote,
    required_text,
    whole_numbers,
)
from llmengine.types.errors import (
    InvalidRequestError,
    StreamIncompleteError,
    UnexpectedResponseError,
)
from llmengine.types.outputs import Logprob
from llmengine.types.sampling import SamplingParams, is_neutral, refuse_what_is_lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest


def with_extra(
    body: dict[str, Any], extra: Mapping[str, Any], joined: frozenset[str]
) -> dict[str, Any]:
    """`body`, updated in place with the fields of `extra`.

    A field of `extra` replaces the field of the same name. If its name is in `joined` and both
    values are objects, the two objects are merged instead.
    """
    for name, value in extra.items():
        ours = body.get(name)
        if name in joined and isinstance(ours, dict) and isinstance(value, Mapping):
            body[name] = ours | dict(value)
        else:
            body[name] = value
    return body


def sampling_fields(
    sampling: SamplingParams,
    names: Mapping[str, str],
    format_name: str,
    advice: str = "leave it out, or put what this server calls it into extra_body",
) -> dict[str, Any]:
    """The sampling parameters that are set, under the wire names in `names`.

    Raises InvalidRequestError for a parameter that has no wire name, unless its value has no
    effect. The message ends with ``advice``.
    """
    refuse_what_is_lost(sampling)
    fields = {}
    for name, value in sampling.given().items():
        wire_name = names.get(name)
        if wire_name is not None:
            fields[wire_name] = list(value) if isinstance(value, tuple) else value
        elif not is_neutral(name, value):
            raise InvalidRequestError(_cannot_say(name, value, format_name, advice))
    return fields


def _cannot_say(name: str, value: object, format_name: str, advice: str) -> str:
    return (
        f"sampling parameter {name!r} is {value!r}, which {format_name} has no field for; {advice}"
    )


_OK = 200
_ENTRY = "logprobs[]."
_TOO_DEEP = "recursion limit"  # part of the parser's message for JSON with more than 200 levels


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a successful body; anything else is an UnexpectedResponseError."""
    try:
        value = from_json(body)
    except ValueError as error:
        raise unexpected(_no_json(body, str(error)), body) from None
    if not isinstance(value, dict):
        raise unexpected("the answer is not a JSON object", body)
    return value


def unexpected(what: str, body: bytes) -> UnexpectedResponseError:
    """The error that says `what` is wrong with the body of a successful answer, and quotes it.

    A body that is not valid JSON counts as cut. A body that is valid JSON has arrived whole.
    """
    shown = quote(body)
    cut = not _is_json(body)
    return UnexpectedResponseError(f"{what}: {shown}", status=_OK, body=shown, cut=cut)


def _no_json(body: bytes, said: str) -> str:
    """What is wrong with a body, according to the message of the JSON parser."""
    if not body.strip():
        return "the answer is empty"
    if said.startswith("EOF"):
        return "the answer is cut, for its JSON has no end"
    if _TOO_DEEP in said:
        return "the answer is JSON that is nested too deeply to be read"
    return "the answer is not JSON"


def _is_json(body: bytes) -> bool:
    try:
        from_json(body)
    except ValueError as error:
        return _TOO_DEEP in str(error)
    return True


def not_read(what: str, error: FieldError, body: bytes) -> UnexpectedResponseError:
    """The error for an answer with a field that cannot be read, which names the field."""
    return unexpected(f"{what}, since {error}", body)


def logprobs(data: Mapping[str, Any], key: str, path: str) -> tuple[Logprob, ...]:
    """Log-probabilities of tokens.

    Some servers leave ``bytes`` and ``top_logprobs`` out, or set them to null.
    """
    return tuple([_logprob(entry) for entry in objects(data, key, path)])


def _logprob(entry: Mapping[str, Any]) -> Logprob:
    top = entry.get("top_logprobs")
    return Logprob(
        required_text(entry, "token", _ENTRY),
        number(entry, "logprob", _ENTRY),
        whole_numbers(entry, "bytes", _ENTRY),
        logprobs(entry, "top_logprobs", _ENTRY) if top else (),
    )


def cumulative(tokens: Sequence[Logprob] | None) -> float | None:
    """Sum of the log-probabilities of the chosen tokens; None if the server gave none."""
    return sum([t.logprob for t in tokens]) if tokens else None


def incomplete(partial: LLMOutput) -> StreamIncompleteError:
    """The error for a stream that ended too early; it holds what had arrived."""
    length = sum(len(o.text) for o in partial.outputs)
    message = (
        f"the stream ended without its terminal event, after {length} characters of text; "
        "what had arrived is in .partial"
    )
    return StreamIncompleteError(message, status=_OK, partial=partial)


def unfinished(output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    """The error for an answer that was not streamed and has no finish_reason."""
    return _kept("the answer has no finish_reason, so it may be cut", output, body)


def too_few(output: LLMOutput, request: ChatRequest, body: bytes) -> UnexpectedResponseError:
    """The error for a response with fewer answers than the request asked for (``n``)."""
    came, asked = len(output.outputs), request.sampling.n
    what = f"{asked} answers were asked for (sampling parameter 'n') and {came} came"
    return _kept(f"{what}; a server that ignores n must be asked several times", output, body)


def _kept(what: str, output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    shown = quote(body)
    said = f"{what} (what came is in .partial): {shown}"
    partial = replace(output, finished=False)
    return UnexpectedResponseError(said, status=_OK, body=shown, partial=partial)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at least 0; None if the headers name no time that can be read.

    ``retry-after-ms`` (OpenAI, Azure) has priority over ``retry-after``, which holds seconds or a
    date (RFC 9110, section 10.2.3). A date is compared with the ``date`` header of the same
    answer, so that the clocks of server and client need not agree.
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(headers, "retry-after")
    seconds = _number(value)
    return seconds if seconds is not None else _until(value, header(headers, "date"))


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its lower-case name, also from a mapping that is case-sensitive."""
    value = headers.get(name)
    if value is None:
        value = next((v for k, v in headers.items() if k.lower() == name), None)
    return value


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(value: str | None, now: str | None) -> float | None:
    at = _timestamp(value)
    if at is None:
        return None
    sent = _timestamp(now)
    return max(at - (time.time() if sent is None else sent), 0.0)


def _timestamp(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):  # parsedate raises them
        return None
