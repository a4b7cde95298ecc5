"""A run with one result of every outcome."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.contract import HTTPExchange
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import CORE, REQUIRED, Check
from pytest_llmengine.contract.runner import CheckResult
from pytest_llmengine.reports import CheckRecord, ContractReport, Header

if TYPE_CHECKING:
    from collections.abc import Callable

FETCHING = frozenset(
    ["link", "img", "iframe", "object", "embed", "audio", "video", "source", "base"]
)
POINTING = frozenset({"src", "srcset", "style", "onclick", "onload", "onerror"})
VOID = frozenset(["meta", "input", "br", "rect"])

HEADER = Header(
    engine="embedded",
    version="b11549",
    model="smollm2-135m",
    mode="replay",
    describe="replayed from llama.cpp b11549 (smollm2-135m), recorded 2026-11-21",
    tier="core",
    date="2026-11-21T10:00:00Z",
    tool_version="0.1.0",
)

EXCHANGE = HTTPExchange(
    method="POST",
    path="/chat/completions",
    request_body='{"model": "smollm2-135m"}',
    status=400,
    response_headers={"content-type": "application/json", "set-cookie": "session=1"},
    response_body='{"error": {"message": "no tools here"}}',
    seconds=0.0123456,
)

VERDICTS = [
    ("chat.basic.id", Outcome.PASS, "", True),
    ("chat.basic.created", Outcome.PASS, "", True),
    ("chat.stream.usage", Outcome.FAIL, "no usage in the last chunk", False),
    ("chat.stream.order", Outcome.DEVIATES, "fail, known since b1: role twice [seen]", True),
    ("chat.stream.gap", Outcome.UNMEASURED, "no arrival times in this mode", True),
    ("tools.parallel", Outcome.REFUSED, "501 no tools here", True),
    ("tools.choice", Outcome.REFUSED, "400 no tools here", False),
    ("struct.enum", Outcome.IGNORED, "the schema had no effect", False),
    ("net.keepalive", Outcome.ERROR, "the check itself broke: KeyError: 'x'", False),
]


def result(id: str, outcome: Outcome, reason: str, accepted: bool) -> CheckResult:  # noqa: A002 - the row's own name
    """A result with one exchange; the check's group is its id without the last part."""

    def rule(target: object) -> None:
        """A rule."""

    row = Check(id, rule, REQUIRED, CORE, "a source", group=id.rpartition(".")[0])
    return CheckResult(row, outcome, reason, (EXCHANGE,), 0.25, accepted, outcome, reason)


@pytest.fixture
def results() -> list[CheckResult]:
    """One result of every outcome, as the runner gives them."""
    return [result(*verdict) for verdict in VERDICTS]


@pytest.fixture
def report(results: list[CheckResult]) -> ContractReport:
    """The same as a report."""
    return ContractReport(HEADER, tuple(CheckRecord.of(r) for r in results))


@pytest.fixture
def clean_report() -> ContractReport:
    """A run in which all passed."""
    passed = CheckRecord.of(result("chat.basic.id", Outcome.PASS, "", True))
    return ContractReport(HEADER, (passed,))


class Page(HTMLParser):
    """A parsed page: its tags, and its texts by the id of the nearest element that has one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {"": ""}
        self.pres: dict[str, list[str]] = {}
        self.scripts: list[str] = []
        self._within: list[tuple[str, str]] = [("", "")]
        self.feed(html)
        self.close()

    @property
    def ids(self) -> list[str]:
        """The ids of all elements."""
        return [given["id"] or "" for _, given in self.tags if "id" in given]

    @property
    def links(self) -> list[str]:
        """The addresses of all links."""
        return [given["href"] or "" for tag, given in self.tags if tag == "a"]

    @property
    def policy(self) -> str:
        """What the page is allowed to load and run."""
        return next(
            given["content"] or ""
            for tag, given in self.tags
            if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy"
        )

    @property
    def text(self) -> str:
        """The text of the whole page."""
        return " ".join(self.texts.values())

    @property
    def fetches(self) -> list[str]:
        """Every tag and attribute by which a page loads something, or runs what is not its own."""
        tags = [tag for tag, _ in self.tags if tag in FETCHING]
        return tags + [name for _, given in self.tags for name in given if name in POINTING]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep every tag, and follow the ids."""
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag in VOID:
            return
        self._within.append((tag, given.get("id") or self._id))
        self.texts.setdefault(self._id, "")
        if tag == "pre":
            self.pres.setdefault(self._id, []).append("")
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element without content."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Leave the element, and those in it whose end is left out."""
        while self._within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Text, as a person sees it."""
        tag = self._within[-1][0]
        if tag == "script":
            self.scripts[-1] += data
        elif tag != "style":
            self.texts[self._id] += data
        if tag == "pre":
            self.pres[self._id][-1] += data

    @property
    def _id(self) -> str:
        return self._within[-1][1]


@pytest.fixture
def read_page() -> Callable[[str], Page]:
    """Reads a page as a browser does."""
    return Page
