"""Every Python block about Chainette in docs/migrating.md runs as a complete program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "migrating.md"
ABOUT_CHAINETTE = PAGE.read_text("utf-8").partition("\n## DSPy")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```", ABOUT_CHAINETTE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_python_of_the_page_runs(chainette: Any, tmp_path: Path, place: int) -> None:
    """It succeeds, and prints what the comment after a print says."""
    environment = {**os.environ, "PYTHONPATH": str(Path(chainette.__file__).parents[1])}

    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[place]],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment,
    )

    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert [
        x for x in re.findall(r"^# (.*)$", BLOCKS[place], re.MULTILINE) if x not in printed
    ] == []
