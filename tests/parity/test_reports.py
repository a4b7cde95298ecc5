"""The four forms of the report are complete, versioned, escaped and self-contained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from llmengine import BadRequestError, CompletionOutput, ConfigError, LLMOutput, Result
from llmengine.types.secrets import register
from pytest_llmengine.parity import Choices, judge
from pytest_llmengine.parity.answers import answer_of
from pytest_llmengine.parity.render import print_report, write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.parity import ParityPrompt, ParityReport, Side
    from pytest_llmengine.parity.answers import ParityAnswer

REFUSED = Result(error=BadRequestError("no such key: sk_parity_secret"))
EVIL = "one <script>alert(1)</script> | *three*"


@pytest.fixture
def report(answer: Callable[..., ParityAnswer], side: Callable[..., Side]) -> ParityReport:
    """Three prompts: the same, another token, and a failure of the candidate."""
    ours = [answer(number=n) for n in (1, 2, 3)]
    theirs = [
        answer(number=1, logprobs=[-0.1, -0.1, -0.3]),
        answer(EVIL, 2, logprobs=[-0.2] * 4),
        answer(number=3, error="BadRequestError: no"),
    ]
    return judge(side(ours), side(theirs), Choices())


def written(report: ParityReport, path: Path) -> str:
    """The report as it is written to a file."""
    write_report(report, path)
    return path.read_text("utf-8")


def printed(report: ParityReport, width: int = 80) -> str:
    """The report on a terminal of that width."""
    text = StringIO()
    print_report(report, Console(file=text, width=width))
    return text.getvalue()


def test_json_has_everything(report: ParityReport, tmp_path: Path) -> None:
    """It has a version, the numbers of all kinds and both texts of each difference."""
    data = json.loads(written(report, tmp_path / "report.json"))

    assert data["schema_version"] == 2
    assert data["verdict"] == "diverges"
    assert data["summary"] == data["kinds"]["chat"]
    assert data["summary"]["prompts"] == 3
    assert (data["summary"]["same"], data["summary"]["diverged"]) == (1, 1)
    assert data["summary"]["failed_on_one_side"] == 1
    assert data["summary"]["logprob_difference"] == {"p50": 0.1, "p90": 0.2, "p99": 0.2, "max": 0.2}
    assert data["noise"][0]["same"] == 3
    assert [cause["standing"] for cause in data["causes"] if cause["name"] == "dtype"] == [
        "unknown"
    ]
    same, diverged, failed = data["pairs"]
    assert "baseline" not in same
    assert diverged["candidate"] == {"text": EVIL}
    assert diverged["divergence"]["position"] == 1
    assert failed["candidate"] == {"error": "BadRequestError: no"}
    assert (data["alpha"], data["unit"], data["passes"]) == (0.01, "group", [4, 3])
    assert data["baseline"]["cost"]["requests"] == 12
    text = next(c for c in data["criteria"] if c["name"] == "text")
    assert text.keys() >= {"p_value", "adjusted", "would_see", "candidate", "noise", "of"}
    assert text["p_value"] <= text["adjusted"]


def test_markdown_escapes_what_models_say(report: ParityReport, tmp_path: Path) -> None:
    """A pipe, a star and a tag stay characters."""
    text = written(report, tmp_path / "report.md")

    assert r"one \<script\>alert(1)\</script\> \| \*three\*" in text
    assert "| chat | 3 | 1 | 1 | 1 | 0 | 0.2 |" in text
    assert "- `p3` one failed" in text


def test_html_is_one_file(report: ParityReport, tmp_path: Path) -> None:
    """It loads nothing, text of a model is not markup, and the page is well-formed."""
    text = written(report, tmp_path / "report.html")

    assert not re.search(r"(?:src|href|url|@import)\s*[=(]|https?://", text)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    body = re.sub(r"<(meta|!doctype)[^>]*>", "", text).replace("<details open>", "<details>")
    assert ET.fromstring(body).tag == "html"


def test_html_shows_where_answers_part(report: ParityReport, tmp_path: Path) -> None:
    """Both texts are side by side, with the first different token marked."""
    text = written(report, tmp_path / "report.html")

    assert '<pre>one <mark>two</mark><span class="rest"> three</span></pre>' in text
    assert "<pre>one <mark>&lt;script&gt;alert(1)&lt;/script&gt;</mark>" in text
    assert "<mark>BadRequestError: no</mark>" in text


def test_html_plots_the_differences(report: ParityReport, tmp_path: Path) -> None:
    """It has a curve for the candidate, and one for each further pass of the baseline."""
    text = written(report, tmp_path / "report.html")

    curves = dict(re.findall(r'<polyline class="(\w+)" points="([^"]+)"', text))
    assert curves.keys() == {"candidate", "noise1", "noise2", "noise3"}
    heights = {float(point.partition(",")[2]) for point in curves["candidate"].split()}
    assert len(heights) == 2  # 0.1 and 0.2
    assert min(heights) > 12  # inside of the drawing


def test_without_logprobs_there_is_no_plot(
    answer: Callable[..., ParityAnswer], side: Callable[..., Side], tmp_path: Path
) -> None:
    """An empty plot is left out."""
    plain = side([answer(tokens=None)])

    assert "<polyline" not in written(judge(plain, plain, Choices()), tmp_path / "report.html")


def test_a_mismatch_shows_its_causes(
    answer: Callable[..., ParityAnswer], side: Callable[..., Side], tmp_path: Path
) -> None:
    """Every form has the cause and no numbers, which would look like a verdict."""
    ours, theirs = side([answer()], dtype="float32"), side([answer()], dtype="bfloat16")
    report = judge(ours, theirs, Choices())

    for name in ("report.json", "report.md", "report.html"):
        text = written(report, tmp_path / name)
        assert "mismatch of dtype (float32 / bfloat16" in text
        assert "failed on one side" not in text
    assert "dtype              mismatch  float32 / bfloat16" in printed(report)


def test_the_terminal_has_80_columns(report: ParityReport) -> None:
    """No line is longer, and the verdict is the last one."""
    lines = printed(report).rstrip().splitlines()

    assert max(map(len, lines)) <= 80
    assert any(line.startswith("diverges: log-probabilities: 0.2, p = 0.0041") for line in lines)
    head = next(line for line in lines if line.startswith("what "))
    assert head.split() == ["what", "candidate", "noise", "p", "adjusted", "would", "see"]
    assert any(line.startswith("false alarms: at most 1.00% of runs") for line in lines)
    assert "p2  diverged  token 1: 'two'" in printed(report, 200)


def test_a_contradiction_is_shown_with_its_prompt(
    answer: Callable[..., ParityAnswer], side: Callable[..., Side], tmp_path: Path
) -> None:
    """Every form names it, and shows both answers, although their ids are equal."""
    ours = [answer(number=n) for n in (1, 2, 3)]
    theirs = [ours[0], replace(ours[1], text="one two"), ours[2]]
    report = judge(side(ours), side(theirs), Choices())

    for name in ("report.json", "report.md", "report.html"):
        text = written(report, tmp_path / name)
        assert "the token ids are those of the baseline, and the text is not" in text
        assert "one two" in text
    assert "p2      the token ids are those of the baseline" in printed(report)


def test_keys_are_taken_out(
    prompt: Callable[..., ParityPrompt], side: Callable[..., Side], tmp_path: Path
) -> None:
    """A key that a model repeats is in no report, in any spelling."""
    register("sk_parity_secret")
    said = CompletionOutput(0, "the key is sk_parity_secret", finish_reason="stop")
    result = Result(output=LLMOutput("r1", "x", (said,)))
    leaky = side([answer_of(prompt(), result, separates_tool_calls=False)])
    report = judge(
        leaky, side([answer_of(prompt(), REFUSED, separates_tool_calls=False)]), Choices()
    )

    for name in ("report.json", "report.md", "report.html"):
        text = written(report, tmp_path / name)
        assert "secret" not in text
        assert "redacted" in text


def test_a_wrong_name_is_refused(report: ParityReport, tmp_path: Path) -> None:
    """The suffix decides the form, and the folder must exist."""
    with pytest.raises(ConfigError, match=r"must end in \.json, \.md, \.html"):
        write_report(report, tmp_path / "report.txt")
    with pytest.raises(ConfigError, match="there is no directory"):
        write_report(report, tmp_path / "gone" / "report.md")
