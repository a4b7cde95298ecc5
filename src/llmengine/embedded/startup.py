"""Waits until a child serves: it is up when it has answered a token, not when it says so."""

from __future__ import annotations

import http.client
import json
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.embedded.process import ChildProcess


_ENOUGH = 2**20


class _NotServingError(Exception):
    """The child said that it cannot serve, or its first answer was no token."""


def wait_until_ready(child: ChildProcess, timeout: float) -> str:
    """The address of the child's server, once it has answered one token.

    Raises ConfigError with the end of the child's log if that does not happen in `timeout`
    seconds; the child is dead then.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(timeout, expire)
    timer.start()
    try:
        url = _url(child)
        _answer_one_token(url)
    except (OSError, http.client.HTTPException, _NotServingError) as error:
        child.kill()
        reason = f"no token within {timeout:g} s" if expired.is_set() else str(error)
        lines = [f"the embedded engine did not start: {reason}", *child.log_tail()]
        raise ConfigError("\n  ".join(lines)) from error
    finally:
        timer.cancel()
        timer.join()
    return url


def _url(child: ChildProcess) -> str:
    report = child.report()
    if "url" not in report:
        raise _NotServingError(report["error"])
    return report["url"]


def _answer_one_token(url: str) -> None:
    # No time limit of its own: when the timer ends the child, the connection breaks.
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        body = json.dumps({"prompt": "Hi", "max_tokens": 1})
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", body, headers)
        response = connection.getresponse()
        answer = response.read(_ENOUGH).decode(errors="replace")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise _NotServingError(f"it answered {response.status} instead of a token: {answer}")
