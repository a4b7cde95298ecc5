"""Our errors as those of a DSPy that drives engines; DSPy makes its own LM kinds of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspy import lm15

from llmengine.types import errors as ours

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first that fits counts, so the special ones stand before the general.
_KINDS: tuple[tuple[type[ours.LLMEngineError], type[lm15.LM15Error]], ...] = (
    (ours.ContextLengthError, lm15.ContextLengthError),
    (ours.AuthenticationError, lm15.AuthError),
    (ours.QuotaError, lm15.BillingError),
    (ours.RateLimitError, lm15.RateLimitError),
    (ours.NotFoundError, lm15.UnsupportedModelError),
    (ours.BadRequestError, lm15.InvalidRequestError),
    (ours.APITimeoutError, lm15.TimeoutError),
    (ours.APIConnectionError, lm15.TransportError),
    (ours.StreamIncompleteError, lm15.StreamAssemblyError),
    (ours.InternalServerError, lm15.ServerError),
    (ours.CallError, lm15.ProviderError),
    (ours.InvalidRequestError, lm15.InvalidRequestError),
    (ours.ConfigError, lm15.ConfigurationError),
)


@contextmanager
def dspy_errors(backend: str) -> Iterator[None]:
    """Raise what fails inside as DSPy's engines do; ours is the cause."""
    try:
        yield
    except ours.LLMEngineError as error:
        raise _as_dspys(error, backend) from error


def _as_dspys(error: ours.LLMEngineError, backend: str) -> lm15.LM15Error:
    kind = next((theirs for mine, theirs in _KINDS if isinstance(error, mine)), lm15.LM15Error)
    if not isinstance(error, ours.CallError):
        return kind(str(error), provider=backend)
    code = None if error.code is None else str(error.code)
    return kind(
        error.message,
        provider=backend,
        provider_code=code,
        status=error.status,
        retry_after=error.retry_after,
    )
