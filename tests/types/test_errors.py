"""The error classes: which are retryable, and that errors cross processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from llmengine import BatchError, CompletionOutput, LLMOutput, Result, Usage
from llmengine.types import errors

PARTIAL = LLMOutput("r", "Hi", (CompletionOutput(0, "Hel"),), finished=False, usage=Usage(1, 2, 3))
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.CallError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_call_errors_survive_pickling(kind: type[errors.CallError]) -> None:
    """Every attribute is kept, also attempts that were counted later."""
    error = kind("boom", status=503, code="c", type="t", body="b", retry_after=1.5, partial=PARTIAL)
    error.attempts = 3
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)
        assert (str(twin), twin.attempts, twin.usage) == ("boom", 3, Usage(1, 2, 3))


def test_a_batch_error_survives_pickling_with_every_result() -> None:
    """The results that were paid for are kept."""
    failed = Result(error=errors.RateLimitError("slow", status=429), attempts=2)
    error = BatchError([Result(output=PARTIAL), failed])
    twin = pickle.loads(pickle.dumps(error))
    assert twin.results[0] == Result(output=PARTIAL)
    assert vars(twin.results[1].error) == vars(failed.error)
    assert str(twin) == str(error)
    assert "1 of 2 prompts failed; the first is prompt 1: RateLimitError: slow" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_worth_a_retry(kind: type[errors.CallError]) -> None:
    """Connections, time-outs, rate limits, server errors and cut streams; nothing else."""
    worth = {
        errors.APIConnectionError,
        errors.APITimeoutError,
        errors.RateLimitError,
        errors.InternalServerError,
        errors.StreamIncompleteError,
    }
    assert kind("boom").retryable is (kind in worth)


def test_not_implemented_is_not_retryable() -> None:
    """A 501 does not pass."""
    assert not errors.InternalServerError("no", status=501).retryable
    assert errors.InternalServerError("no", status=500).retryable


def test_a_clock_that_ran_out_after_sending_is_final() -> None:
    """Work that was begun is not paid for twice; only a failed connection is retried."""
    assert errors.APITimeoutError("late", clock="connect").retryable
    assert not errors.APITimeoutError("late", clock="total").retryable


def test_advice_is_part_of_the_message() -> None:
    """Advice that was added later is shown and pickled."""
    error = errors.NotFoundError("no such model")
    error.advise("pull it")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "no such model; pull it"


def test_an_error_before_any_answer_has_no_usage() -> None:
    """It is None, never 0."""
    assert errors.APIConnectionError("no").usage is None


def test_a_wrong_request_is_a_value_error_too() -> None:
    """Code that knows only Python's errors can catch it."""
    assert issubclass(errors.InvalidRequestError, ValueError)
    twin = pickle.loads(pickle.dumps(errors.InvalidRequestError("n is wrong")))
    assert str(twin) == "n is wrong"
