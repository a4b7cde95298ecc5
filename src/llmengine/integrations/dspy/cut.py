"""Saying that an answer was cut, on DSPys that do not say it themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("llmengine")


def warn_if_cut(engine: str, finish_reasons: Iterable[str | None], limit: int | None) -> None:
    """One warning where any of the answers ended at the token limit."""
    if "length" in finish_reasons:
        at = "its limit" if limit is None else f"{limit} tokens"
        log.warning("%s: an answer was cut at %s; raise max_tokens", engine, at)
