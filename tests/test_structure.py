"""The measures of ``tools/structure.py``: each of them finds its defect."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grimp", reason="the tool needs it; it is in the group lint")
import structure

SOUND = {
    "__init__.py": "",
    "engine.py": "import sample.errors\n\nclass Engine:\n    pass\n",
    "errors.py": "class CallError(Exception):\n    pass\n",
    "streaming.py": "",
}
PADDING = "# a line\n" * 1000  # so that few files per 1,000 lines are not the problem


def write(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    """A package ``sample`` with these files, as the tool takes packages."""
    package = folder / "sample"
    for name, text in {**files, "text.py": PADDING}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return {"sample": package}


def test_sound_tree_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No limit is exceeded, and a noun of the field may end in -ing."""
    packages = write(tmp_path, SOUND)
    monkeypatch.syspath_prepend(tmp_path)

    status = structure.report(structure.measures(packages))

    printed = capsys.readouterr().out
    assert status == 0
    assert "files                                       5\n" in printed
    assert "duplicate class names                       0  (at most 0)\n" in printed


@pytest.mark.parametrize(
    ("more", "name", "found"),
    [
        ({"other.py": "class Engine:\n    pass\n"}, "duplicate class names", "Engine in "),
        (
            {"other.py": "def make():\n    class CallError:\n        pass\n"},
            "duplicate class names",
            "CallError in ",
        ),
        ({"errors.py": "import sample.engine\n"}, "import cycles", "sample.e"),
        (
            {
                "errors.py": "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from sample.engine import Engine\n"
            },
            "import cycles",
            "sample.e",
        ),
        (
            {"errors.py": "def late():\n    from sample import engine\n"},
            "import cycles",
            "sample.e",
        ),
        ({"asking.py": ""}, "gerund file names", "asking.py"),
        ({"call_asking.py": ""}, "gerund file names", "call_asking.py"),
        ({"asking/__init__.py": ""}, "gerund file names", "asking"),
        (
            {f"part{n}.py": "" for n in range(8)},
            "files per 1,000 lines",
            "",
        ),
    ],
)
def test_each_defect_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: dict[str, str],
    name: str,
    found: str,
) -> None:
    """The exit status is 1, and the measure names what it found."""
    packages = write(tmp_path, {**SOUND, **more})
    monkeypatch.syspath_prepend(tmp_path)

    measures = list(structure.measures(packages))

    assert structure.report(measures) == 1
    assert [m.name for m in measures if m.is_exceeded] == [name]
    assert found in capsys.readouterr().out


def test_files_of_a_call_are_those_in_which_code_runs() -> None:
    """The first call runs more files than the second, and the server's files are not counted."""
    # In a process of its own, since threads that run already have no profile.
    code = "import json, structure; print(json.dumps(structure.files_of_two_calls()))"
    folder = Path(structure.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=folder)
    first, second = json.loads(done.stdout)

    assert set(second) < set(first)
    assert {"engine/engine.py", "transport/asyncio_transport.py", "dialects/openai_chat.py"} <= set(
        second
    )
    assert not [path for path in first if path.startswith("mock/")]


def test_any_is_counted_per_thousand_lines(tmp_path: Path) -> None:
    """Every word counts, in imports and comments too; longer words do not."""
    text = "from typing import Any\n\nvalue: Any = 1  # Any, not Anything\n"
    (tmp_path / "one.py").write_text(text, "utf-8")

    assert structure.any_per_thousand_lines(tmp_path) == 1000
