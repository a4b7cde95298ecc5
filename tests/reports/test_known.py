"""The shipped reports of real servers."""

from __future__ import annotations

import json

import jsonschema
import known_reports as tool  # in tools/
import pytest
import report_schema  # the same
import report_tables  # the same

from llmengine import ConfigError
from pytest_llmengine.reports.known import FOLDER, SUFFIX, known_reports, report_named

FILES = sorted(FOLDER.glob(f"*/*{SUFFIX}"))
MOST_BYTES = 250_000  # twelve of them leave the wheel below 5 MB


def test_shipped_reports_are_those_of_the_recordings() -> None:
    """``python tools/known_reports.py`` writes them; ``--check`` replays the recordings."""
    assert tool.outdated() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_report_is_small_and_has_the_schema(path: object) -> None:
    """It can be read like any other report, and names its server and version."""
    file = next(one for one in FILES if one == path)
    content = tool.read(file)

    jsonschema.validate(content, json.loads(report_schema.SCHEMA.read_text("utf-8")))
    assert file.stat().st_size < MOST_BYTES
    assert content["provenance"]["name"] == file.parent.name
    assert content["provenance"]["version"] == file.name.removesuffix(SUFFIX)


def test_only_a_whole_run_is_called_extended() -> None:
    """A report of the tier core may have a group of the tier extended."""
    whole = {f"{k.name} {k.version}" for k in known_reports() if k.report.header.tier == "extended"}
    assert whole == {"llama.cpp b11549", "vllm 0.32.0"}


@pytest.mark.parametrize("page", report_tables.PAGES)
def test_pages_show_the_shipped_reports(page: str) -> None:
    """Their tables are written from the reports."""
    text = (report_tables.DOCS / page).read_text("utf-8")
    assert text.count(report_tables.BEGIN) == text.count(report_tables.END) == 1
    assert text == report_tables.written(page), "run tools/report_tables.py"


def test_name_without_a_version_is_the_newest_one() -> None:
    """The reports are sorted by version."""
    newest = known_reports("vllm")[-1]

    assert report_named("known:vllm") == newest.report
    assert report_named(f"known:vllm@{newest.version}") == newest.report
    assert report_named(f"mine=known:vllm@{newest.version}").header.label == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("known:vlm", "known:vlm: no server is called 'vlm': dasllama"),
        ("known:vllm@0.1", "known:vllm@0.1: there is no version '0.1' of vllm: "),
        ("=a.json", "=a.json: there is no name before the ="),
    ],
)
def test_unknown_name_is_an_error_that_lists_the_known_ones(text: str, said: str) -> None:
    """One line says what was given and what there is."""
    with pytest.raises(ConfigError, match=said):
        report_named(text)
