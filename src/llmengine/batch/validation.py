"""Checks that the answer to one line of a batch is complete.

The output gets the server's own text unchanged, so only errors that make the answer a failure are
looked for here. The content of the answer is not checked, except that it must call a tool if the
request demands a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmengine.batch.format import ROUTES
from llmengine.dialects import openai_chat, openai_responses
from llmengine.dialects.common import not_read, unexpected
from llmengine.dialects.errors import reported_failure
from llmengine.dialects.fields import (
    CHAT_USAGE,
    RESPONSES_USAGE,
    FieldError,
    objects,
    read_usage,
    required_mapping,
    required_text,
)
from llmengine.dialects.openai_chat import failure_in
from llmengine.structured.tools import demanded_tools
from llmengine.structured.validation import refuse_uncalled
from llmengine.types.request import ChatRequest
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.batch.format import BatchRequest
    from llmengine.types.outputs import Usage


def usage_of(data: Mapping[str, Any]) -> Usage | None:
    """The token counts, also under the names of the responses API; None if they are invalid."""
    value = data.get("usage")
    is_response = isinstance(value, dict) and "input_tokens" in value
    return read_usage(value, RESPONSES_USAGE if is_response else CHAT_USAGE, {})


def refuse_incomplete(data: Mapping[str, Any], request: BatchRequest, body: bytes) -> None:
    """Raise a CallError if a response with status 200 is not a complete answer to the request.

    The error is the one that the server reports, UnexpectedResponseError with a quote from the
    body, or StructuredOutputError for an answer without the tool call that the request demands.
    """
    name = ROUTES[request.url]
    try:
        if (error := failure_in(data, body)) is not None:
            raise error
        items = objects(data, name)
        if not items:
            raise unexpected(f"an answer without {name}", body)
        if name == "choices":
            for choice in items:
                _refuse_unfinished(choice, request.url, body)
    except FieldError as error:
        raise not_read("the answer does not fit this route", error, body) from None
    if request.url == "/v1/responses":
        _refuse_unfinished_response(data, body)
    elif (wanted := _wanted(request)) > len(items):
        raise unexpected(f"the answer has {len(items)} {name} instead of {wanted}", body)
    _refuse_uncalled(request, body)


def _refuse_unfinished(choice: Mapping[str, Any], url: str, body: bytes) -> None:
    if url == "/v1/completions":
        required_text(choice, "text", "choices[].")
    else:
        required_mapping(choice, "message", "choices[].")
    if not choice.get("finish_reason"):
        raise unexpected("a choice has no finish_reason, so it may be cut", body)


def _refuse_unfinished_response(data: Mapping[str, Any], body: bytes) -> None:
    status = data.get("status")
    if status == "failed":
        raise reported_failure({"error": {"message": "the response failed"}}, body)
    if status not in ("completed", "incomplete"):
        raise unexpected("the answer is not a finished response", body)


_DECODERS = {
    "/v1/chat/completions": openai_chat.decode,
    "/v1/responses": openai_responses.decode,
}


def _refuse_uncalled(request: BatchRequest, body: bytes) -> None:
    """Raise StructuredOutputError for an answer without the tool call that is demanded."""
    choice, tools = request.body.get("tool_choice"), request.body.get("tools")
    decode = _DECODERS.get(request.url)
    if decode is None or not isinstance(choice, (str, Mapping)) or not isinstance(tools, list):
        return
    demand = ChatRequest(
        model="",
        prompt="",
        messages=(),
        sampling=SamplingParams(),
        tools=tuple(tool for tool in tools if isinstance(tool, Mapping)),
        tool_choice=choice,
    )
    if demanded_tools(demand) is not None:
        refuse_uncalled(decode(body, demand), demand)


def _wanted(request: BatchRequest) -> int:
    """How many items the request asked for; 1 if that is not known."""
    body = request.body
    if request.url == "/v1/embeddings":
        return input_count(request)
    n = body.get("n")
    several = n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else 1
    return several * (_prompts(body.get("prompt")) if request.url == "/v1/completions" else 1)


def input_count(request: BatchRequest) -> int:
    """How many inputs a request for embeddings has; 1 for the other routes."""
    is_embedding = request.url == "/v1/embeddings"
    return _prompts(request.body.get("input")) if is_embedding else 1


def _prompts(given: Any) -> int:
    """How many prompts a field holds; it is a text, a list of tokens, or a list of either."""
    if not isinstance(given, list) or not given or isinstance(given[0], int):
        return 1
    return len(given)
