"""Hooks of mkdocs: they add the pages that are made from the code, and adapt links to the site.

The pages in ``docs`` and at the root of the repository have links that work in a checkout. A link
to a file outside of ``docs`` becomes a link to a page of the site that shows this file.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from pytest_llmengine.reports.known import known_reports

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Pages at the root of the repository that are pages of the site as well.
ROOT_PAGES = ("BENCHMARK.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
MATRIX = "matrix-report.html"

# The file is not in the repository, so its page has no link to it there.
_MATRIX_LINK = f"[Open the matrix]({MATRIX}){{ .md-button .md-button--primary }}"

_LINK = re.compile(r"\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
_BLOCK = re.compile(r"((?:^ *<!-- block .*? -->\n)+)( *```\w+)", re.MULTILINE)
_FILE = re.compile(r"<!-- block file: (\S+) -->")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of rules to the navigation."""
    section = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    rules = next(entry["Rules"] for entry in section if "Rules" in entry)
    rules[1:] = [{name: f"reference/rules/{name}.md"} for name, _ in reference.rule_pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs``."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for name in ROOT_PAGES:
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, f"project/{name}", content=text))
    for path in sorted(_linked_files()):
        files.append(File.generated(config, _source_page(path), content=_shown(path)))
    files.append(File.generated(config, MATRIX, content=_matrix()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - the hook's arguments
    """Remove the comments for the tests, but show names of files; let links lead to pages."""
    here = page.file.src_uri
    if here.startswith(("reference/", "source/")):
        return markdown
    text = _LINK.sub(lambda link: _on_site(link, here), _BLOCK.sub(_titled, markdown))
    if here == "matrix.md":
        title, first, rest = text.split("\n\n", 2)
        text = f"{title}\n\n{first}\n\n{_MATRIX_LINK}\n\n{rest}"
    return text


def _titled(block: re.Match[str]) -> str:
    """The start of a block without its comments, with the name of its file as the title."""
    comments, fence = block.groups()
    file = _FILE.search(comments)
    return f'{fence} title="{file[1]}"' if file else fence


def _on_site(link: re.Match[str], here: str) -> str:
    """A link as it must be on the page ``here`` of the site."""
    target = _page_of(_in_repository(here), link["path"])
    path = posixpath.relpath(target, PurePosixPath(here).parent) if target else link["path"]
    return f"]({path}{link['anchor'] or ''})"


def _in_repository(here: str) -> str:
    """The path in the repository of a page of the site."""
    name = here.removeprefix("project/")
    return name if name != here else f"docs/{here}"


def _page_of(origin: str, link: str) -> str | None:
    """The page of the site for a link in a file of the repository; None if there is none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in ROOT_PAGES:
        return f"project/{path}"
    if path == "README.md":
        return "index.md"
    return _source_page(path) if (ROOT / path).is_file() else None


def _source_page(path: str) -> str:
    return f"source/{path}.md"


def _linked_files() -> set[str]:
    """The files of the repository, other than pages, to which pages link."""
    origins = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ROOT_PAGES)]
    found = set()
    for origin in origins:
        for link in _LINK.finditer(origin.read_text("utf-8")):
            target = _page_of(origin.relative_to(ROOT).as_posix(), link["path"])
            if target and target.startswith("source/"):
                found.add(target.removeprefix("source/").removesuffix(".md"))
    return found


def _shown(path: str) -> str:
    """A page that shows a file."""
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    text = (ROOT / path).read_text("utf-8").rstrip()
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{language}\n{text}\n````\n"


@cache  # `mkdocs serve` builds the site again and again
def _matrix() -> str:
    """The shipped reports of real servers, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "matrix.html")
        columns = [f"known:{known.name}@{known.version}" for known in known_reports()]
        _run("report", *columns, "--output", str(page))
        return page.read_text("utf-8")


def _run(*arguments: str) -> None:
    """Run a command of ``llmengine`` that is not configured by the environment."""
    done = subprocess.run(  # noqa: S603 - a command of this project
        [sys.executable, "-m", "pytest_llmengine.cli", *arguments],
        check=False,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("LLMENGINE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in {0, 1}:  # 1: a verdict that no profile accepts
        raise PluginError(f"llmengine {' '.join(arguments)}: {done.stdout}")
