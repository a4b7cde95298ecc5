"""Short quotations of what a server said, for reasons that people read."""

from __future__ import annotations

import json

_MAX_SHOWN = 300


def quote(value: object) -> str:
    """Text as it is, anything else as JSON, cut after 300 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
