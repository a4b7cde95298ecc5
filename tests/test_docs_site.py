"""The reference pages of the documentation site name everything that they are about."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from docs_site import reference

import llmengine
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.plugin.options import OPTIONS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page that is made from the code."""
    return reference.pages()


def test_every_rule_has_its_place(pages: dict[str, str]) -> None:
    """Each shipped rule is a heading of one page, with an anchor that links can use."""
    rules = "\n".join(text for path, text in pages.items() if path.startswith("reference/rules/"))
    shipped = [check for check in catalogue().values() if check.own_file is None]
    assert [c.id for c in shipped if rules.count(f"\n### {c.id} {{ #{c.id} }}\n") != 1] == []


def test_every_public_name_has_its_place(pages: dict[str, str]) -> None:
    """Each name that `llmengine` exports is documented once."""
    api = "\n".join(text for path, text in pages.items() if path.startswith("reference/api/"))
    documented = api.splitlines()
    assert [n for n in llmengine.__all__ if documented.count(f"::: llmengine.{n}") != 1] == []


def test_every_option_and_command_is_there(pages: dict[str, str]) -> None:
    """Options have all of their names, and summaries of commands are not cut."""
    options = pages["reference/pytest-options.md"]
    assert [o.key for o in OPTIONS if f"`{o.variable}` | `{o.key}`" not in options] == []
    assert [o.key for o in OPTIONS if any(f"`{flag}`" not in options for flag in o.flags)] == []
    commands = pages["reference/commands.md"]
    assert "## `llmengine verify`" in commands
    assert "### `llmengine contract explain`" in commands
    assert (
        "* `report`: Show reports side by side, list the shipped ones, and check those of others.\n"
        in (commands)
    )


def test_every_page_is_in_the_navigation(pages: dict[str, str]) -> None:
    """A new page of `docs` needs an entry in mkdocs.yml, and each entry is a page."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    listed = list(_pages_of(settings["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    project = {path for path in listed if path.startswith("project/")}
    assert sorted(written - set(listed)) == []
    assert sorted(set(listed) - written - set(pages) - project) == []
    assert [path for path in project if not (ROOT / path.removeprefix("project/")).exists()] == []


def _pages_of(entries: object) -> list[str]:
    """The paths in a part of the navigation."""
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [path for part in parts for path in _pages_of(part)]
