"""Readers of the parts that OpenAI's and Ollama's answers share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects.fields import FieldError, number, objects, required_text, whole_numbers
from llmengine.dialects.quote import quote
from llmengine.types.errors import StreamIncompleteError, UnexpectedResponseError
from llmengine.types.outputs import Logprob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest

_OK = 200
_ENTRY = "logprobs[]."
_TOO_DEEP = "recursion limit"  # the parser's words for more than 200 levels


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


def not_read(what: str, error: FieldError, body: bytes) -> UnexpectedResponseError:
    """The error for an answer with a field that cannot be read, which names the field."""
    return unexpected(f"{what}, since {error}", body)


def logprobs(data: Mapping[str, Any], key: str, path: str) -> tuple[Logprob, ...]:
    """Log-probabilities of tokens; servers leave ``bytes`` and ``top_logprobs`` out or null."""
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


def unfinished(output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    """The error for a whole answer that does not say why it ended."""
    return _kept("the answer has no finish_reason, so it may be cut", output, body)


def too_few(output: LLMOutput, request: ChatRequest, body: bytes) -> UnexpectedResponseError:
    """The error for fewer answers than were asked for."""
    came, asked = len(output.outputs), request.sampling.n
    what = f"{asked} answers were asked for (sampling parameter 'n') and {came} came"
    return _kept(f"{what}; a server that ignores n must be asked several times", output, body)


def _kept(what: str, output: LLMOutput, body: bytes) -> UnexpectedResponseError:
    shown = quote(body)
    said = f"{what} (what came is in .partial): {shown}"
    partial = replace(output, finished=False)
    return UnexpectedResponseError(said, status=_OK, body=shown, partial=partial)
