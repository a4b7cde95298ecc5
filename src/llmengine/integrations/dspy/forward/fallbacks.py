"""Keeping DSPy's adapters from asking again after the server's own failure.

Before 3.4 an adapter answers any failure of its language model, a 500 as well as an answer that
it cannot read, by asking once more in another format, and that by asking a third time. The engine
has retried by then: each of those calls would be retried all over.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_DURING = "_llmengine_modules"


@contextmanager
def failing_once(modules: Any) -> Iterator[None]:
    """Raise a failure that is being handled once more, instead of asking again for it.

    ``modules`` is DSPy's stack of running modules: a new list for each call of a module, so that
    the same one means an adapter's second try, and another one a retry of the user's own.
    """
    handled = sys.exc_info()[1]
    if handled is not None and modules and vars(handled).get(_DURING) is modules:
        raise handled
    try:
        yield
    except Exception as error:
        vars(error)[_DURING] = modules
        raise
