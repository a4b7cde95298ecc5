"""Our errors as litellm's, which are those that DSPy's own LM raises before 3.4."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import litellm

from llmengine.types import errors as ours

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROVIDER = "llmengine"

# The first that fits counts, so the special ones stand before the general.
_KINDS: tuple[tuple[type[ours.LLMEngineError], Any], ...] = (
    (ours.ContextLengthError, litellm.ContextWindowExceededError),
    (ours.AuthenticationError, litellm.AuthenticationError),
    (ours.RateLimitError, litellm.RateLimitError),
    (ours.NotFoundError, litellm.NotFoundError),
    (ours.BadRequestError, litellm.BadRequestError),
    (ours.APITimeoutError, litellm.Timeout),
    (ours.APIConnectionError, litellm.APIConnectionError),
    (ours.StreamIncompleteError, litellm.APIConnectionError),
    (ours.InternalServerError, litellm.InternalServerError),
    (ours.CallError, litellm.APIConnectionError),
    (ours.InvalidRequestError, litellm.BadRequestError),
)


@contextmanager
def dspy_errors(model: str) -> Iterator[None]:
    """Raise what fails inside as DSPy's own LM does; ours is the cause."""
    try:
        yield
    except ours.LLMEngineError as error:
        kind = next((theirs for mine, theirs in _KINDS if isinstance(error, mine)), None)
        if kind is None:
            raise
        raise kind(message=str(error), llm_provider=_PROVIDER, model=model) from error
