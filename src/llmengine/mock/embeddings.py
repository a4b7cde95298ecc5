"""POST /v1/embeddings: unit vectors that depend on the text alone."""

from __future__ import annotations

import base64
import math
import random
import struct
from typing import TYPE_CHECKING

from llmengine.mock.completions_body import prompts
from llmengine.mock.reading import integer
from llmengine.mock.replies import Whole
from llmengine.mock.text import count

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

DEFAULT_DIMENSIONS = 384
MAX_DIMENSIONS = 4096


def embeddings(body: JSON, service: Service) -> Answer:
    """Embed each input, in order."""
    texts = prompts(body.get("input"))
    wanted = integer(body.get("dimensions")) or DEFAULT_DIMENSIONS
    dimensions = min(max(wanted, 1), MAX_DIMENSIONS)
    encoded = body.get("encoding_format") == "base64"
    tokens = sum(count(t) for t in texts)
    vectors = (_vector(t, dimensions) for t in texts)
    return Whole(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": _shown(v, encoded=encoded)}
                for i, v in enumerate(vectors)
            ],
            "model": service.echo(body),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _vector(text: str, dimensions: int) -> bytes:
    """A unit vector as little-endian 32-bit floats, so that both encodings say the same."""
    chance = random.Random(f"embed {text}")  # nosec B311  # noqa: S311 - repeatable on purpose
    drawn = [chance.gauss(0, 1) for _ in range(dimensions)]
    length = math.hypot(*drawn)
    return struct.pack(f"<{dimensions}f", *(x / length for x in drawn))


def _shown(vector: bytes, *, encoded: bool) -> str | list[float]:
    if encoded:
        return base64.b64encode(vector).decode()
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
