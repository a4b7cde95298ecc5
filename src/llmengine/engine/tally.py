"""What one prompt has cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from llmengine.types.errors import BadRequestError, CallError
from llmengine.types.outputs import Result, Usage

if TYPE_CHECKING:
    from llmengine.telemetry.otel import ChatSpan
    from llmengine.telemetry.pricing import Tariff
    from llmengine.telemetry.usage import Account
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import LLMOutput

_OK = 200  # also the status of an answer that broke off or cannot be read


class Tally:
    """Follows one prompt: its requests, their usage, and their traces if somebody listens.

    Everything that is sent for a prompt is told to its tally, and `close` makes the result. One
    that is left without being closed was cancelled, and is counted as such.
    """

    __slots__ = ("_account", "_begun", "_closed", "_free", "_spent", "_tariff", "attempts", "span")

    def __init__(self, account: Account, tariff: Tariff, span: ChatSpan | None) -> None:
        self.attempts = 0
        self.span = span
        self._account = account
        self._tariff = tariff
        self._spent: list[Usage] = []
        self._free = 0  # requests that were refused, so that nothing was generated
        self._closed = False
        self._begun = account.begin()

    def attempt(self) -> None:
        """A request is about to be sent."""
        self.attempts += 1
        if self.span is not None:
            self.span.attempt(self.attempts)

    def answered(self, usage: Usage | None) -> None:
        """The request was answered, and this is what the server says that it took."""
        if usage is not None:
            self._spent.append(usage)

    def failed(self, error: CallError) -> None:
        """The request failed."""
        if error.usage is not None:
            self._spent.append(error.usage)
        elif _refused(error):
            self._free += 1
        if self.span is not None:
            self.span.attempt_failed(self.attempts, error)

    def content(self) -> None:
        """Generated content has arrived."""
        if self.span is not None:
            self.span.content()

    @property
    def usage(self) -> Usage | None:
        """The sum of what is known; None when nothing is."""
        return sum(self._spent[1:], self._spent[0]) if self._spent else None

    def close(self, output: LLMOutput | None = None, error: LLMEngineError | None = None) -> Result:
        """The prompt's result, counted and told to whoever listens."""
        return self._close(output, error, cancelled=False)

    def _close(
        self, output: LLMOutput | None, error: LLMEngineError | None, *, cancelled: bool
    ) -> Result:
        self._closed = True
        uncounted = self.attempts - len(self._spent) - self._free
        seconds = self._account.end(self._begun)
        cost = self._tariff.cost(self._spent, uncounted, seconds)
        currency = None if cost is None else self._tariff.currency
        result = Result(output, error, self.attempts, self.usage, cost, uncounted, currency)
        self._account.add(result, cancelled=cancelled)
        if self.span is not None:
            self.span.end(result, cancelled=cancelled)
        return result

    def __enter__(self) -> Self:
        if self.span is not None:
            self.span.enter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._closed:
            self._close(None, CallError("the caller gave the call up"), cancelled=True)
        if self.span is not None:
            self.span.leave()


def _refused(error: CallError) -> bool:
    """Whether nothing can have been generated: no connection, or a refusal before any content."""
    if error.clock == "connect":
        return True
    begun = error.partial.outputs if error.partial is not None else ()
    content = any(o.text or o.reasoning or o.tool_calls for o in begun)
    refused = error.status not in {None, _OK} or isinstance(error, BadRequestError)
    return refused and not content
