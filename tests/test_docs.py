"""The documentation is true: its examples are the files, its commands are those of CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _blocks(page: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("example", ["test_summary.py", "test_openai_sdk.py"])
def test_example_of_the_readme_is_its_file(example: str) -> None:
    """The README shows a file of examples; ``test_docs_blocks.py`` runs what it shows."""
    text = (ROOT / "examples" / example).read_text("utf-8")
    assert text.partition('"""\n\n')[2] in _blocks("README.md")


def test_ci_runs_the_command_of_the_readme() -> None:
    """CI runs the README's line, in parts: the set-up first and the tests last."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "dev" in line]
    command = next(line for line in lines if "--group dev" in line)

    assert "grep -m1 -- '--group dev' README.md" in script
    assert command.startswith("python -m pip install")
    assert command.endswith("&& python -m pytest -n 2")
    assert command in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize(
    "page",
    sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]),
)
def test_links_lead_somewhere(page: str) -> None:
    """A link to a file of the project is to one that exists."""
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)

    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_tests_that_the_requirements_name_exist() -> None:
    """Each test or file that a row names exists."""
    text = (ROOT / "docs/requirements.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    assert [
        (path, name)
        for path, name in named
        if not (ROOT / path).exists() or f"def {name}" not in (ROOT / path).read_text("utf-8")
    ] == []
