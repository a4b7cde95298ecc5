"""A key in the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.secrets.secret_objects import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k3y-0f-n0-usual-f0rm"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key that no text may show."""
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setenv("TESTS_SHOWN_FOLDER", str(tmp_path))
    return KEY
