"""``llmengine cassettes``: pack and unpack recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_pack_and_unpack(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Each prints the path that replaces the given one; a path that does not fit is one line."""
    folder, packed = tmp_path / "mine", tmp_path / "mine.zip"
    folder.mkdir()
    (folder / "a.yaml").write_text("version: 1\ninteractions: []\n")

    assert llmengine("cassettes", "pack", folder).out == f"{packed}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]
    again = llmengine("cassettes", "pack", folder)
    assert (again.status, again.err.count("\n")) == (2, 1)
    assert f"there are no recordings to pack in {folder}" in again.err
    assert llmengine("cassettes", "unpack", packed).out == f"{folder}\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "a.yaml"]
