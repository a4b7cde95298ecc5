"""The sampling values with which the answers of two servers can be compared.

A server takes values that a request leaves out from its own defaults or from the model's
generation_config.json, and two servers of one model may do so differently. So every value that
influences the next token is sent with every request.
"""

from __future__ import annotations

from typing import Any

PINNED: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
}
"""The likeliest token at each position, without any filter or penalty."""
