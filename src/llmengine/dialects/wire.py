"""Readers of the parts that OpenAI's and Ollama's answers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects.quote import quote
from llmengine.values.errors import StreamIncompleteError, UnexpectedResponseError
from llmengine.values.outputs import Logprob

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmengine.values.outputs import LLMOutput

_OK = 200
_TOO_DEEP = "recursion limit"  # the parser's words for more than 200 levels
# What reading a JSON value of another shape than expected raises.
SHAPE_ERRORS = (AttributeError, KeyError, IndexError, TypeError, ValueError)


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
    """The error that says `what` is wrong with a body of a successful answer, and quotes it.

    It counts as cut unless it is JSON, which is whole whatever it says.
    """
    shown = quote(body)
    cut = not _is_json(body)
    return UnexpectedResponseError(f"{what}: {shown}", status=_OK, body=shown, cut=cut)


def _no_json(body: bytes, said: str) -> str:
    """What is wrong with a body, by what the parser said."""
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


def logprobs(entries: Iterable[dict[str, Any]]) -> tuple[Logprob, ...]:
    """Log-probabilities of tokens; servers leave ``bytes`` and ``top_logprobs`` out or null."""
    return tuple([_logprob(e) for e in entries])


def _logprob(entry: dict[str, Any]) -> Logprob:
    raw, top = entry.get("bytes"), entry.get("top_logprobs")
    return Logprob(
        entry["token"],
        entry["logprob"],
        tuple(raw) if raw is not None else None,
        logprobs(top) if top else (),
    )


def cumulative(tokens: Sequence[Logprob] | None) -> float | None:
    """Sum of the log-probabilities of the chosen tokens, None where none were given."""
    return sum([t.logprob for t in tokens]) if tokens else None


def incomplete(partial: LLMOutput) -> StreamIncompleteError:
    """The error for a stream that ended too early, holding what had arrived."""
    length = sum(len(o.text) for o in partial.outputs)
    message = (
        f"the stream ended without its terminal event, after {length} characters of text; "
        "what had arrived is in .partial"
    )
    return StreamIncompleteError(message, status=_OK, partial=partial)
