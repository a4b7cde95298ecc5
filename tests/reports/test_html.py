"""The HTML page of reports, parsed as a browser does it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from llmengine.types.secrets import register
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports import CheckRecord, ContractReport, write_report
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.comparison_page import matrix_page
from pytest_llmengine.reports.contract_page import contract_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.contract.runner import CheckResult
    from tests.reports.conftest import Page

    Read = Callable[[str], Page]

RULE = "chat.basic.required_fields"


def to_html(*reports: ContractReport) -> str:
    """The page of one report, or of several."""
    page = contract_page(*reports) if len(reports) == 1 else matrix_page(reports, every=True)
    return pages.to_html(page)


def version(report: ContractReport, name: str, **outcomes: Outcome) -> ContractReport:
    """The report of another version, with other outcomes by id, whose dots are "__"."""
    changed = {id_.replace("__", "."): outcome for id_, outcome in outcomes.items()}
    checks = tuple(
        replace(c, outcome=o, observed=o, accepted=o is Outcome.PASS, reason="so")
        if (o := changed.get(c.id))
        else c
        for c in report.checks
    )
    describe = report.header.describe.replace("b11549", name)
    return ContractReport(replace(report.header, version=name, describe=describe), checks)


# ---- what a reader sees without scripts


def test_first_screen_says_what_was_tested_and_how_well(
    report: ContractReport, read_page: Read
) -> None:
    """Provenance, the sum, a score per level with its denominator, and the findings by level."""
    required, expected = (
        replace(c, level=level)
        for c, level in zip(
            (report.checks[2], report.checks[5]), ("expected", "required"), strict=True
        )
    )
    checks = [{required.id: required, expected.id: expected}.get(c.id, c) for c in report.checks]
    page = read_page(to_html(ContractReport(report.header, tuple(checks))))

    assert "Contract report: embedded" in page.text
    assert "replayed from llama.cpp b11549 (smollm2-135m), recorded 2026-11-21" in page.text
    assert "9 checks: 2 pass, 1 fail, 2 refused" in page.text
    scores = " ".join(page.texts["scores"].split())
    assert "required 2 of 6 rules kept (33%)" in scores
    assert scores.index("required") < scores.index("expected 0 of 1 rules kept (0%)")
    assert "2 without a verdict" in scores
    found = page.texts["findings"]
    assert found.index("role twice") < found.index("no usage in the last chunk")
    assert "llmengine verify --engine embedded --mode replay --check tools.parallel" in found


def test_every_rule_is_listed_with_its_exchanges(report: ContractReport, read_page: Read) -> None:
    """Passes too; a verdict has its request as a command, and its answer as indented JSON."""
    page = read_page(to_html(report))

    assert set(page.ids) >= {record.id for record in report.checks}
    assert [link for link in page.links if link == "#chat.basic.id"]
    for record in report.checks:
        said = page.texts[record.id]
        assert record.outcome in said
        if record.outcome is not Outcome.PASS:
            assert "POST /chat/completions: 400, 0.012 s" in said
            command, headers, answered = page.pres[record.id]
            assert command.startswith('curl -sSgN "$OPENAI_BASE_URL"/chat/completions ')
            assert "content-type: application/json" in headers
            assert answered == '{"error": {"message": "no tools here"}}'


def test_a_rule_is_explained(report: ContractReport, read_page: Read) -> None:
    """A rule of the catalogue has its sentence, its use, and its sources as links."""
    known = replace(report.checks[2], id=RULE)

    page = read_page(to_html(ContractReport(report.header, (known, report.checks[3]))))

    assert "A chat completion has id, object, created, model and choices." in page.texts[RULE]
    assert "Why a client cares: " in page.texts[RULE]
    assert "in the contract since 2026-11-21" in page.texts[RULE]
    assert [link for link in page.links if "openai-openapi" in link]
    assert "This version of llmengine does not have the rule." in page.texts[report.checks[3].id]


def test_what_follows_stands_under_its_cause(report: ContractReport, read_page: Read) -> None:
    """One finding for one cause; the rules that follow name it, and it names them."""
    failed = [
        replace(c, fact="no tools | no routes") for c in report.checks if c.id.startswith("tools.")
    ]
    page = read_page(to_html(ContractReport(report.header, tuple(failed))))

    assert page.texts["findings"].count("no tools") == 1
    assert "no routes" not in page.texts["findings"]
    assert "1 more with the same cause" in page.texts["findings"]
    assert "Follows from tools.parallel." in page.texts["tools.choice"]
    assert "1 rule follows from this" in page.texts["tools.parallel"]
    assert ("tr", {"data-level": "required", "data-cause": "tools.parallel"}) in page.tags


def test_a_long_stream_keeps_its_lines_and_is_folded(
    report: ContractReport, read_page: Read
) -> None:
    """The first events are shown, and no line is lost."""
    body = "".join(f'data: {{"n": {n}}}\n\n' for n in range(50)) + "data: [DONE]\n\n"
    exchange = {**report.checks[2].exchanges[0], "response_body": body}
    record = replace(report.checks[2], exchanges=(exchange,))

    page = read_page(to_html(ContractReport(report.header, (record,))))

    *_, head, rest = page.pres[record.id]
    assert f"{head}\n{rest}" == body.rstrip()
    assert "more lines" in page.texts[record.id]


def test_servers_are_compared(report: ContractReport, read_page: Read) -> None:
    """Equal verdicts stand together; versions of one server have a history and their changes."""
    fixed = version(report, "b12000", chat__stream__usage=Outcome.PASS)
    worse = version(report, "b9", chat__basic__id=Outcome.FAIL)

    page = read_page(to_html(report, fixed, worse))

    history = "llama.cpp: b9 to b11549 fail, b12000 pass"
    assert history in page.texts["chat.stream.usage"]
    assert "embedded b11549, embedded b9" in page.texts["chat.stream.usage"]
    assert "embedded b9 to embedded b11549: 1 rule is kept now" in " ".join(
        page.texts["versions"].split()
    )
    columns = [given for tag, given in page.tags if tag == "th" and given.get("scope") == "col"]
    assert len(columns) >= 2 + 3


# ---- one safe file


@pytest.mark.parametrize("count", [1, 2])
def test_page_is_whole_and_loads_nothing(
    report: ContractReport, count: int, read_page: Read
) -> None:
    """Every link has its target, ids are unique, and only the page's own script may run."""
    html = to_html(*(version(report, f"b{n}") for n in range(count)))
    page = read_page(html)

    assert page.fetches == []
    assert "url(" not in html
    assert "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    inner = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inner - set(page.ids) == set()
    assert all(link.startswith(("#", "https://")) for link in page.links)
    (script,) = page.scripts
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert "default-src 'none'" in page.policy
    assert "unsafe-inline" not in page.policy
    labels = {"aria-label", "aria-labelledby"}
    named = [given for tag, given in page.tags if tag in {"section", "nav", "form"}]
    assert all(labels & given.keys() for given in named)
    assert [tag for tag, _ in page.tags].count("main") == 1


@pytest.mark.parametrize("count", [1, 2])
def test_texts_of_servers_and_reports_are_text(
    report: ContractReport, count: int, read_page: Read
) -> None:
    """Nobody who writes a server or a report can put a tag into any part of the page."""
    tag = "</pre></script><script>alert('x')</script><img src=http://a/b> & \" {{ 7 * 7 }} \x1b"
    exchange = {
        "method": f"method {tag}",
        "path": f"path {tag}",
        "request_headers": {f"sent {tag}": tag},
        "request_body": f"request {tag}",
        "status": 200,
        "response_headers": {f"header {tag}": tag},
        "response_body": f"response {tag}",
        "seconds": 1,
    }
    record = replace(
        report.checks[2],
        **{name: f"{name} {tag}" for name in ("id", "group", "level", "tier", "reason", "fact")},
        exchanges=(exchange,),
    )
    other = replace(record, id=f"other {tag}")
    names = ("engine", "version", "model", "describe", "tier", "date", "tool_version")
    header = replace(report.header, **{name: f"{name} {tag}" for name in names})

    html = to_html(*[ContractReport(header, (record, other))] * count)

    page = read_page(html)
    assert page.fetches == []
    assert [tag for tag, _ in page.tags if tag == "script"] == ["script"]
    assert {link.removeprefix("#") for link in page.links} - set(page.ids) == set()
    shown = tag.replace("\x1b", "\\x1b")
    said = ("id", "group", "level", "reason", "fact", "path", "response", "engine", "describe")
    assert [name for name in said if f"{name} {shown}" not in page.text] == []
    assert "\x1b" not in html


def test_keys_are_not_in_the_page(
    results: list[CheckResult], report: ContractReport, tmp_path: Path, read_page: Read
) -> None:
    """A key that a server repeats is masked in every place, and so are cookies."""
    key = "sk-very-secret-1&2"
    register(key)
    failed = results[2]
    exchange = replace(
        failed.exchanges[0],
        request_headers={"X-Api-Key": key, "Authorization": "Bearer someone-else"},
        request_body=f'{{"key": "{key}"}}',
        response_body=f"your key is {key}",
        response_headers={"x-key": key, "set-cookie": "session=1"},
    )
    with_key = replace(failed, reason=f"said {key}", exchanges=(exchange,))
    header = replace(report.header, describe=f"live at http://a/?key={key}")
    path = tmp_path / "report.html"

    write_report(ContractReport(header, (CheckRecord.of(with_key),)), path)

    html = path.read_text("utf-8")
    assert "very-secret" not in html
    assert "session=1" not in html
    assert "someone-else" not in html
    assert read_page(html).texts[with_key.check.id].count("[redacted]") == 5
    assert '-H "x-api-key: $OPENAI_API_KEY"' in read_page(html).pres[with_key.check.id][0]


# ---- the command that repeats a request


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_command_repeats_the_request(report: ContractReport, read_page: Read) -> None:
    """It is run by a shell, and sends the same body although it has quotes and line breaks."""
    asked = {"model": "mock", "messages": [{"role": "user", "content": 'it\'s "so"\n$HOME `x` @'}]}
    exchange = {**report.checks[2].exchanges[0], "request_body": json.dumps(asked)}
    record = replace(report.checks[2], exchanges=(exchange,))
    command = read_page(to_html(ContractReport(report.header, (record,)))).pres[record.id][0]

    with MockServer(api_key="sk-of-the-mock") as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-of-the-mock"}
        ran = subprocess.run(
            ["sh", "-c", command],
            check=True,
            env=os.environ | environment,
            capture_output=True,
            timeout=30,
        )
        (request,) = server.calls

    assert json.loads(ran.stdout)["object"] == "chat.completion"
    assert request.json == asked


def test_request_that_no_command_line_holds_has_none(
    report: ContractReport, read_page: Read
) -> None:
    """A body that is cut or not text is shown as it is."""
    for body in ("x" * 10 + "... (5 more characters)", "\x1f\ufffd\x08"):
        exchange = {**report.checks[2].exchanges[0], "request_body": body}
        record = replace(report.checks[2], exchanges=(exchange,))
        page = read_page(to_html(ContractReport(report.header, (record,))))
        assert not re.search("curl -s", page.texts[record.id])
        assert body[:1].strip("\x1f") in page.pres[record.id][0]
