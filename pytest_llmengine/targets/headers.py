"""Headers that a user gives as texts such as ``X-Team: search``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.config.address import checked_header
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import learn_headers, secret_headers
from pytest_llmengine.targets.settings import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_headers(texts: Iterable[str]) -> dict[str, str]:
    """The headers in texts such as ``Name: value``; their keys are registered, so none is printed.

    Raises TargetError, which never shows a value, for a text that is not a header.
    """
    headers: dict[str, str] = {}
    for place, text in enumerate(texts, 1):
        name, colon, value = (part.strip() for part in text.partition(":"))
        if not colon:
            raise TargetError(f'header {place} has no colon; write it as "Name: value"')
        try:
            checked_header(f"header {place}", name, value)
        except ConfigError as error:
            raise TargetError(str(error)) from None
        headers[name] = value
    learn_headers(headers)
    return secret_headers(headers)
