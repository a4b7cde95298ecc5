"""`llmengine bench`: a run with its reports, exit statuses and mistakes of users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Fault, Load, MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "sk-bench-0123456789"
QUICK = ("--seconds", 0.25, "--warm-up", 0.05, "--arrivals", "constant", "--max-tokens", 4)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, clean_folder: Path) -> None:
    monkeypatch.setenv("LLMENGINE_API_KEY", KEY)


def test_run(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Every rate has its numbers, on the terminal and in each kind of report, without the key."""
    files = [tmp_path / f"bench{end}" for end in (".json", ".md", ".html")]
    reports = [argument for file in files for argument in ("--report", file)]
    with MockServer(api_key=KEY, load=Load(time_to_first_token=0.02)) as server:
        ran = llmengine(
            *("bench", "--url", server.root_url, "--rate", 80, "--rate", 120, *QUICK),
            *("--slo", "ttft=30s", "--slo", "itl=20s", *reports),
        )
        prompts = [call.json["messages"][0]["content"] for call in server.calls if call.json]

    assert ran.status == 0, ran.err
    assert "60 requests of at most 4 tokens in 1 s" in ran.err
    assert "at a server that does nothing, 30 answers at 120/s: first token" in ran.out
    assert "within all objectives" in ran.out
    written = json.loads(files[0].read_text("utf-8"))
    assert [rate["requests"] for rate in written["rates"]] == [20, 30]
    assert [rate["answered"] for rate in written["rates"]] == [20, 30]
    assert all(rate["goodput"] == rate["throughput"] for rate in written["rates"])
    assert written["objectives"] == {"ttft": 30, "itl": 20}
    for rate in written["rates"]:  # a busy machine may have no latencies
        median = rate["latencies"].get("ttft", {}).get("p50")
        assert median is None or 0.02 <= median["low"] <= median["value"] <= median["high"]
    page = files[2].read_text("utf-8")
    assert "Throughput by request rate" in page
    assert "<svg" in page
    assert KEY not in ran.out + ran.err + "".join(file.read_text("utf-8") for file in files)
    sent = [prompt for prompt in prompts if "write a long story" in prompt]
    assert len(sent) == 60
    assert len({prompt[:12] for prompt in sent}) == 60  # no two begin alike


def test_server_that_refuses(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """It is status 1 if no request is answered; the failures are counted, with an example."""
    chats = tmp_path / "chats.jsonl"
    body = {"messages": [{"role": "user", "content": "from the file"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    chats.write_text(json.dumps(line), encoding="utf-8")
    with MockServer() as server:
        server.when(contains="from the file").reply(Fault(status=429))
        ran = llmengine(
            *("bench", "--url", server.root_url, "--rate", 40, *QUICK, "--prompts", chats)
        )

    assert ran.status == 1
    assert "10 failed, RateLimitError (HTTP 429), such as:" in ran.out
    assert "the server answered no request completely" in ran.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slo", "p99=1"), "write ttft, itl, tpot or e2e, =, and a time"),
        (("--slo", "ttft=0"), "such as ttft=0.5 or itl=50ms"),
        (("--slo", "ttft=1", "--slo", "ttft=2"), "objective 'ttft=2': ttft has one already"),
        (("--report", "bench.txt"), "the name must end in .json, .md, .html"),
        (("--prompts", "none.jsonl"), "none.jsonl: No such file"),
        (("--prompts", "empty.jsonl"), "empty.jsonl: there are no requests in the file"),
        (("--prompts", "wrong.jsonl"), "wrong.jsonl, line 1: not JSON"),
        ((), "nothing answers at http://127.0.0.1:9/v1"),
        (("--rate", "0"), "greater than or equal to 0.001"),
        (("--rate", "inf"), "less than or equal to 10000"),
        (("--rate", "5000"), "150,000 requests come in 30 s, and at most 100,000 are sent"),
        (("--rate", "0.001", "--seconds", "2"), "--rate 0.001: no request comes in 2 s"),
    ],
    ids=[
        *("slo", "time", "two", "report", "no file", "empty", "JSON", "server", "zero"),
        *("infinite", "too many", "no request"),
    ],
)
def test_mistakes(
    llmengine: Callable[..., Any], clean_folder: Path, options: tuple[str, ...], said: str
) -> None:
    """Each is one line, before anything is sent."""
    (clean_folder / "empty.jsonl").touch()
    (clean_folder / "wrong.jsonl").write_text("Hello", encoding="utf-8")

    ran = llmengine("bench", "--url", "http://127.0.0.1:9", "--model", "m", *options)

    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert said in ran.err
