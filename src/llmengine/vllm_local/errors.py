"""What vLLM's refusals and failures are called here."""

from __future__ import annotations

from llmengine.dialects.errors import speaks_of_context
from llmengine.types.errors import (
    BadRequestError,
    CallError,
    ContextLengthError,
    InternalServerError,
    LLMEngineError,
    UnexpectedResponseError,
)


def refusal(error: Exception) -> LLMEngineError:
    """The error of a request that vLLM did not take; one of ours stays as it is."""
    if isinstance(error, LLMEngineError):
        return error
    kind = ContextLengthError if speaks_of_context(str(error)) else BadRequestError
    refused = kind(f"vLLM refuses the request: {type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused


def unreadable(error: Exception) -> LLMEngineError:
    """The error of an answer that could not be read, by a parser of vLLM's for one."""
    if isinstance(error, LLMEngineError):
        return error
    failed = UnexpectedResponseError(f"an answer of vLLM's: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed


def death(error: BaseException) -> CallError:
    """The error of a request that was under way when vLLM's engine failed.

    Not retried: the model has to be loaded anew, which is for the caller to decide.
    """
    failed = InternalServerError(f"vLLM's engine failed: {type(error).__name__}: {error}")
    failed.final = True
    failed.__cause__ = error
    return failed


def closed() -> CallError:
    """The error of a request that was under way when the engine was closed."""
    return CallError("the engine was closed before the answer was whole")
