"""The results of several prompts, and the error for those of which some failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.types.errors import LLMEngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.types.outputs import LLMOutput, Usage


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one prompt: it always has an ``output`` or an ``error``.

    ``attempts`` counts the requests that were sent, including failed ones and repairs. ``usage``
    is the sum of their tokens. ``uncounted`` is the number of requests for which the server sent
    no usage, although they may have used tokens. ``cost`` is the money spent on all requests, in
    ``currency``; it is None if any part of it is unknown. ``engine`` is the name of the engine
    whose output or error this is; it is None if the prompt was not given to an engine.
    """

    output: LLMOutput | None = None
    error: LLMEngineError | None = None
    attempts: int = 1
    usage: Usage | None = None
    cost: float | None = None
    uncounted: int = 0
    currency: str | None = None
    engine: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the prompt was answered."""
        return self.error is None

    def unwrap(self) -> LLMOutput:
        """Return the output, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.output is not None
        return self.output


class BatchError(LLMEngineError):
    """At least one prompt failed finally; ``results`` holds every result, in order."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = list(results)
        failed = [(i, r.error) for i, r in enumerate(self.results) if r.error is not None]
        first, error = failed[0]
        message = (
            f"{len(failed)} of {len(self.results)} prompts failed; "
            f"the first is prompt {first}: {type(error).__name__}: {error}; "
            "every result, with its output or its error, is in .results"
        )
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.results,))
