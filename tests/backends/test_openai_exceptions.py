"""Every public exception of OpenAI's SDK becomes an error of this library."""

from __future__ import annotations

import pytest

from llmengine import CallError
from llmengine.dialects.errors import failure

openai = pytest.importorskip("openai")


def _exceptions() -> list[type[Exception]]:
    found = [value for name, value in vars(openai).items() if not name.startswith("_")]
    return [c for c in found if isinstance(c, type) and issubclass(c, Exception)]


def _raised(kind: type[Exception]) -> Exception:
    """An instance as the SDK would raise it, made without knowledge of its arguments."""
    error = kind.__new__(kind)
    Exception.__init__(error, "from the SDK")
    return error


@pytest.mark.parametrize("kind", _exceptions(), ids=lambda kind: kind.__name__)
def test_every_public_exception_of_the_sdk_has_an_error_here(kind: type[Exception]) -> None:
    """A new class of a new SDK must derive from a known one, or this test fails."""
    from llmengine.openai_sdk import call_error, reply_in  # noqa: PLC0415 - needs the SDK

    error = _raised(kind)
    if issubclass(kind, openai.APIStatusError):
        error.response = _Response()  # type: ignore[attr-defined]
        reply = reply_in(error)
        assert reply is not None
        meant: CallError | None = failure(reply.status, reply.headers, reply.body)
    else:
        meant = call_error(error, "http://host/v1")

    assert isinstance(meant, CallError)
    assert type(meant) is not CallError


class _Response:
    """The parts of an HTTP response of either generation that the library reads."""

    status_code = 409
    headers: dict[str, str] = {}  # noqa: RUF012 - never written
    content = b"{}"
