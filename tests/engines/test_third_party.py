"""A backend of somebody else's, found through the entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine import EngineConfig

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MODULE = """
from llmengine.backends.openai_compatible import OpenAICompatible


class Acme(OpenAICompatible):
    name = "acme"
    default_endpoint = "http://acme.example/v1"
"""


def test_entry_point_adds_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that declares the entry point is found by its backend's name."""
    (tmp_path / "acme_engine.py").write_text(MODULE, "utf-8")
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text(
        "[llmengine.engines]\nacme = acme_engine:Acme\n", "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    engine = EngineConfig(backend="acme", model="m").engine

    assert engine.base_url == "http://acme.example/v1"
