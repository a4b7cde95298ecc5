"""GET /v1/models, POST /v1/embeddings, and Ollama's /api/embed and /api/embeddings.

The models are the served ones and those that clients have pulled. An embedding is a unit vector
that depends only on the text.
"""

from __future__ import annotations

import base64
import math
import random
import struct
from typing import TYPE_CHECKING

from llmengine.mock.bodies import dimension_count, prompts
from llmengine.mock.json_fields import text
from llmengine.mock.text import count
from llmengine.mock.wire import ApiError, JSONAnswer

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


_NANOSECONDS = 1_000_000  # how long an embedding takes, as Ollama counts it


def list_models(body: Body, service: Service) -> MockAnswer:
    """List the models."""
    models = [_model(name, service) for name in service.model_names]
    return JSONAnswer({"object": "list", "data": models})


def retrieve_model(body: Body, service: Service, name: str) -> MockAnswer:
    """Describe one model by its id."""
    known = name in service.model_names
    if not known and "models.retrieve.unknown" not in service.behaviour.without_rules:
        message = f"The model '{name}' does not exist or you do not have access to it."
        raise ApiError(message, status=404, param="model", code="model_not_found")
    return JSONAnswer(_model(name, service))


def _model(name: str, service: Service) -> JSON:
    return {"id": name, "object": "model", "created": service.started, "owned_by": "llmengine"}


def create_embeddings(body: Body, service: Service) -> MockAnswer:
    """Embed each input, in order."""
    texts = prompts(body.get("input"))
    dimensions = dimension_count(body.get("dimensions"))
    encoded = body.get("encoding_format") == "base64"
    tokens = sum(count(t) for t in texts)
    vectors = [_vector(t, dimensions, body, service) for t in texts]
    return JSONAnswer(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": i,
                    "embedding": _encoded(v) if encoded else _floats(v),
                }
                for i, v in enumerate(vectors)
            ],
            "model": service.model_name(body),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def ollama_embed(body: Body, service: Service) -> MockAnswer:
    """Embed one input or several, as Ollama's own API does."""
    texts = prompts(body.get("input"))
    dimensions = dimension_count(body.get("dimensions"))
    return JSONAnswer(
        {
            "model": service.model_name(body),
            "embeddings": [_floats(_vector(t, dimensions, body, service)) for t in texts],
            "total_duration": _NANOSECONDS,
            "load_duration": _NANOSECONDS,
            "prompt_eval_count": sum(map(count, texts)),
        }
    )


def ollama_embeddings(body: Body, service: Service) -> MockAnswer:
    """Embed one prompt by Ollama's older route; an empty prompt has no vector."""
    prompt = text(body.get("prompt"))
    vector = _floats(_vector(prompt, dimension_count(None), body, service)) if prompt else []
    return JSONAnswer({"embedding": vector})


def _vector(said: str, dimensions: int, body: Body, service: Service) -> bytes:
    """The vector as little-endian 32-bit floats, so that both encodings give equal values.

    It is the scripted one, or else a unit vector.
    """
    if (scripted := service.embedding_for(said, body)) is not None:
        return struct.pack(f"<{len(scripted)}f", *scripted)
    chance = random.Random(f"embed {said}")  # nosec B311  # noqa: S311 - repeatable on purpose
    drawn = [chance.gauss(0, 1) for _ in range(dimensions)]
    length = math.hypot(*drawn)
    return struct.pack(f"<{dimensions}f", *(x / length for x in drawn))


def _encoded(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _floats(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
