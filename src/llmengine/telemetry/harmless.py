"""A decorator that keeps a failure in telemetry from failing the call."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("llmengine")

P = ParamSpec("P")
T = TypeVar("T")

_logged: set[str] = set()


def harmless(method: Callable[P, T]) -> Callable[P, T | None]:
    """Wrap a function so that it logs its exceptions, once per process, and returns None instead.

    Such a function calls code of other projects, such as a tracing library or a price list. That
    code may run the user's own exporters and processors.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            name = f"{method.__module__}.{method.__qualname__}"
            if name not in _logged:
                _logged.add(name)
                kind = type(error).__name__
                log.warning("%s failed and is skipped: %s: %s", name, kind, error, exc_info=True)
            return None

    return call
