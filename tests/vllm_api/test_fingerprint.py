"""The fingerprint of a real vLLM server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine import Engine


def test_version_model_and_context(live: Engine) -> None:
    """All facts are known, except for the digest of the weights."""
    found = live.fingerprint()
    assert found.version is not None
    assert found.version[0].isdecimal()
    assert found.models is not None
    assert found.model == live.model
    assert live.model in found.models
    assert (found.owned_by, found.model_digest) == ("vllm", None)
    assert found.root
    assert found.max_model_len is not None
    assert found.max_model_len > 0
