"""Fields that vLLM once had: it takes them with a 200 and ignores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMOVED = "guided_"


def refuse_removed(body: Mapping[str, object]) -> None:
    """Raise InvalidRequestError for a guided decoding field, which constrains nothing any more."""
    for name in body:
        if name.startswith(_REMOVED):
            kind = name.removeprefix(_REMOVED)
            raise InvalidRequestError(
                f"extra_body: {name!r} is a field that vLLM ignores by now, with a 200 and an "
                f"unconstrained answer; give SamplingParams(structured_outputs={{{kind!r}: ...}})"
            )
