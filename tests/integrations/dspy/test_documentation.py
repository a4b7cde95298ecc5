"""The programs of docs/dspy.md and docs/migrating.md run on the DSPy that they are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import Generation

if TYPE_CHECKING:
    from llmengine import EngineConfig

_PAGE = Path(__file__).parents[3] / "docs" / "dspy.md"
_MIGRATING = _PAGE.with_name("migrating.md").read_text("utf-8").partition("\n## DSPy")[2]
_TEXT = _PAGE.read_text("utf-8") + _MIGRATING
_BLOCKS = re.findall(r"^```python\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)
_PROGRAMS = [block for block in _BLOCKS if not block.startswith("# a test file")]
_WRITTEN_FOR = {
    "# DSPy 3.x": {Generation.FORWARD, Generation.ENGINE},
    "# DSPy 3.4": {Generation.ENGINE},
}


@pytest.mark.parametrize("program", _PROGRAMS, ids=range(len(_PROGRAMS)))
def test_a_program_runs(
    dspy: Any, generation: Generation, embedded: EngineConfig, program: str, tmp_path: Path
) -> None:
    """Each block is a complete program."""
    assert dspy
    assert embedded
    if generation not in _WRITTEN_FOR.get(program.partition("\n")[0], {generation}):
        pytest.skip("it is written for another DSPy; run: nox -s dspy-3.1.2 dspy-latest")

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
