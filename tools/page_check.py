"""Check the HTML pages of the recordings in a real browser: accessibility, widths, and filters.

    nox -s page             # axe-core on a few groups of rules
    nox -s page -- --all    # axe-core on every group, which takes long

Replays the recordings, writes the page of one server and of several, and opens both at 1280 and 412
pixels, light and dark. The exit status is 1 if axe-core finds a violation, if a page scrolls
sideways, if the browser reports an error, or if the page does not do what it promises. It needs
Debian's chromium, and the packages playwright and axe-playwright-python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmengine.reports.comparison_page import matrix_page
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.json import read_report
from pytest_llmengine.reports.page import write_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.reports import ContractReport

ROOT = Path(__file__).parents[1]
ENGINES = ("embedded", "vllm_api")
GROUPS = {"auth", "chat.basic", "conc.usage", "embeddings", "err", "schema"}
PART = 60  # rules on a page for axe-core, which takes minutes for thousands of rows
RULE = "chat.basic.required_fields"
WIDTHS = (1280, 412)

AXE = "axe.run(document, { resultTypes: ['violations'] })"
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
SCROLLS = "document.documentElement.scrollWidth > window.innerWidth"
SHOWN = "[...document.querySelectorAll('#matrix tr[data-level]')].filter((row) => row.offsetParent)"


def main() -> int:
    """Check all pages, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check the HTML pages of reports in a browser.")
    parser.add_argument("--all", action="store_true", help="axe-core on every group of rules")
    every = parser.parse_args().all
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    missing = [name for name in ("playwright", "axe_playwright_python") if not find_spec(name)]
    if browser is None or missing:
        need = ["apt-get install chromium"] if browser is None else []
        need += [f"pip install {name.replace('_', '-')}" for name in missing]
        raise SystemExit(f"the check needs a browser: {' && '.join(need)}")
    with tempfile.TemporaryDirectory() as folder:
        problems = list(check_pages(browser, Path(folder), every=every))
    sys.stdout.write("\n".join((*problems, f"{len(problems)} problems\n")))
    return 1 if problems else 0


def check_pages(browser: str, folder: Path, *, every: bool) -> Iterator[str]:
    """The problems of all pages in all looks, with axe-core on a sample or on every group."""
    import axe_playwright_python  # noqa: PLC0415 - in the environment of this check only
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - the same

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    reports = replayed(folder)
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=sandbox)
        samples = parts(reports) if every else [GROUPS]
        for name, groups in product(("one", "many"), (None, *samples)):
            shown = [part(report, groups) for report in reports] if groups else reports
            path = folder / f"{name}.html"
            page = contract_page(shown[0]) if name == "one" else matrix_page(shown, every=True)
            write_page(page, path)
            for scheme, width in product(("light", "dark"), WIDTHS):
                size = {"width": width, "height": 900}
                tab = chromium.new_page(viewport=size, color_scheme=scheme)
                tab.set_default_timeout(60_000)
                check = check_part(tab, path, axe) if groups else check_whole(tab, path)
                some = f" ({', '.join(sorted(groups))})" if groups else ""
                look = f"{name} servers{some}, {scheme}, {width} px"
                sys.stdout.write(f"{look}\n")
                sys.stdout.flush()
                yield from (f"{look}: {found}" for found in check)
                tab.close()
            plain = chromium.new_page(java_script_enabled=False)
            plain.goto(path.as_uri())
            if not groups and plain.locator(f"[id='{RULE}']").count() != 1:
                yield f"{name} servers: without scripts, {RULE} is not there"
            plain.close()
        chromium.close()


def replayed(folder: Path) -> list[ContractReport]:
    """The reports of the recordings, and one under another version, so that there is a history."""
    reports = []
    for engine in ENGINES:
        path = folder / f"{engine}.json"
        replay = ("verify", "--engine", engine, "--mode", "replay", "--report", str(path))
        command = [sys.executable, "-c", "from pytest_llmengine.cli import main; main()", *replay]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)  # noqa: S603 - our own
        reports.append(read_report(path))
    first = reports[0].header
    describe = first.describe.replace(str(first.version), "b1")
    return [*reports, replace(reports[0], header=replace(first, version="b1", describe=describe))]


def part(report: ContractReport, groups: set[str]) -> ContractReport:
    """The report with these groups of rules only."""
    return replace(report, checks=tuple(c for c in report.checks if c.group in groups))


def parts(reports: list[ContractReport]) -> list[set[str]]:
    """All groups of rules, in parts that axe-core can check."""
    sizes = Counter(check.group for check in reports[0].checks)
    found: list[set[str]] = [set()]
    for group, size in sizes.items():
        if found[-1] and size + sum(sizes[name] for name in found[-1]) > PART:
            found.append(set())
        found[-1].add(group)
    return found


def check_whole(page: Any, path: Path) -> Iterator[str]:
    """The problems of a page with all rules: its width, its filters and its links."""
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    if page.evaluate(SCROLLS):
        yield "the page scrolls sideways"
    page.goto(f"{path.as_uri()}?q=usage&level=required&outcome=pass#{RULE}")
    page.reload()
    if page.locator("select[name=level]").input_value() != "required":
        yield "the level is not kept in the address"
    texts = page.evaluate(f"{SHOWN}.map((row) => row.innerText)")
    if not texts or not all("usage" in text and "required" in text for text in texts):
        yield "the filters do not select the rows"
    if not page.locator(f"[id='{RULE}']").is_visible():
        yield "a link to a rule does not open it"
    page.evaluate(OPEN_ALL)
    if page.evaluate(SCROLLS):
        yield "the page scrolls sideways if everything is open"
    yield from (f"the browser says {error}" for error in errors)


def check_part(page: Any, path: Path, axe: str) -> Iterator[str]:
    """The problems that axe-core finds on a page with some of the rules."""
    page.goto(f"{path.as_uri()}?open=1")
    page.evaluate(axe)
    yield from violations(page, "as it opens")
    page.evaluate(OPEN_ALL)
    yield from violations(page, "if everything is open")


def violations(page: Any, when: str) -> Iterator[str]:
    """The violations that axe-core finds."""
    for found in page.evaluate(AXE)["violations"]:
        node = found["nodes"][0]
        yield (
            f"axe {when}: {found['id']} at {len(found['nodes'])} places, such as {node['html']}: "
            f"{node['failureSummary']}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
