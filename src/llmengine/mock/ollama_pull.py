"""Ollama's own API: pulling a model from its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.errors import ApiError
from llmengine.mock.ollama_models import SIZE, digest_of
from llmengine.mock.reading import text
from llmengine.mock.replies import Framing, Stream, Whole
from llmengine.mock.service import tagged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

MISSING = "no-such"  # how the names begin that the mock's registry does not have
_NOT_THERE = "pull model manifest: file does not exist"


def pull(body: JSON, service: Service) -> Answer:
    """Serve a further model from now on; its progress comes line by line.

    As Ollama's, a stream that has begun says in a line of its own that it failed, under status
    200; asked without a stream, a failure is a 500.
    """
    name = text(body.get("model"))
    streamed = body.get("stream") is not False
    if name.startswith(MISSING):
        if not streamed:
            raise ApiError(_NOT_THERE, status=500)
        return Stream([{"status": "pulling manifest"}, {"error": _NOT_THERE}], Framing.NDJSON)
    service.pulled.add(name)
    lines = list(_progress(tagged(name)))
    return Stream(lines, Framing.NDJSON) if streamed else Whole(lines[-1])


def _progress(tag: str) -> Iterator[JSON]:
    digest = digest_of(tag)
    yield {"status": "pulling manifest"}
    layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": SIZE}
    yield layer
    yield layer | {"completed": SIZE // 2}
    yield layer | {"completed": SIZE}
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": status}
