"""`llmengine models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.embedded.models import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def test_list_says_how_to_get_what_is_not_here(
    llmengine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With an empty cache each model has its size and the command that gets it."""
    monkeypatch.setenv("LLMENGINE_CACHE", str(tmp_path))
    heading, *rows = llmengine("models", "list").out.splitlines()
    assert heading.split() == ["name", "size", "file"]
    assert [row.split()[0] for row in rows] == list(CATALOGUE)
    assert "98.4 MB" in rows[0]
    assert rows[0].rstrip().endswith("not downloaded; run `llmengine models pull smollm2-135m`")


def test_list_says_where_a_model_is(
    llmengine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model in the cache is listed with its path."""
    model = CATALOGUE["smollm2-135m"]
    path = tmp_path / "models" / model.file_name
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(model.size)
    monkeypatch.setenv("LLMENGINE_CACHE", str(tmp_path))
    assert str(path) in llmengine("models", "list").out
