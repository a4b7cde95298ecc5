"""Ray Data on this machine: a head, two processes of actors, and a server with faults."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import read_batch
from llmengine.integrations.ray_data import EngineMapper, run_batch
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock import MockServer

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is missing; run: pip install 'pytest-llmengine[ray]', or nox -s ray",
    ),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, from threads that outlive a test
]

COUNT = 10_000
FEWER = 1_000
ACTORS = 2
LOCAL = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
FAULTS = [
    Fault(status=429, retry_after=0.001),
    Fault(status=500),
    Fault(status=503),
    Fault(cut_after=0),
    Fault(cut_after=1, split_at=40),
    Fault(malformed_json=True),
    Fault(content_type="text/html"),
    Fault(delay=0.002),
]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray for this test run, which listens on loopback and sends no usage reports."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", NODE_KEY="sk-of-the-node"
    )
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, object_store_memory=200 * 2**20, **LOCAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    yield ray
    ray.shutdown()


@pytest.fixture
def pool(ray: Any) -> dict[str, Any]:
    """Two actors that leave a processor for other work."""
    return {"compute": ray.data.ActorPoolStrategy(size=ACTORS), "num_cpus": 0.5}


def _every_fifth() -> Iterator[Fault | None]:
    chance = random.Random(2026)
    while True:
        yield chance.choice(FAULTS) if chance.random() < 0.2 else None


def _said(call: Any) -> str:
    return str(call.json["messages"][0]["content"]).removeprefix("Repeat this: ")


def _requests(count: int) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"p{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": f"Repeat this: p{i}"}]},
        }
        for i in range(count)
    ]


def test_ten_thousand_rows(
    ray: Any, pool: dict[str, Any], server: MockServer, config: dict[str, Any]
) -> None:
    """All rows come back in order, answered or failed, and the attempts are the server's calls."""
    server.play(Script(faults=_every_fifth()))
    rows = [{"id": i, "prompt": f"Repeat this: p{i}"} for i in range(COUNT)]

    answered = (
        ray.data.from_items(rows, override_num_blocks=20)
        .map_batches(
            EngineMapper,
            fn_constructor_kwargs={"engine": {**config, "max_retries": 2}},
            batch_format="pyarrow",
            batch_size=250,
            **pool,
        )
        .take_all()
    )

    asked = Counter(map(_said, server.calls))
    assert [row["id"] for row in answered] == list(range(COUNT))
    assert {row["prompt"]: row["attempts"] for row in answered} == {
        f"Repeat this: {name}": times for name, times in asked.items()
    }
    failed = [row for row in answered if row["error"] is not None]
    assert all(row["text"] == f"p{row['id']}" for row in answered if row["error"] is None)
    assert 0 < len(failed) < COUNT / 10
    assert "UnexpectedResponseError" in {row["error"] for row in failed}


@pytest.mark.parametrize("form", ["pyarrow", "pandas", "numpy"])
def test_formats_of_ray(
    ray: Any, pool: dict[str, Any], server: MockServer, config: dict[str, Any], form: str
) -> None:
    """Messages, sampling and structured answers work in each format."""
    rows = [
        {"id": i, "talk": [{"role": "user", "content": "Ann."}], "how": {"max_tokens": 50 + i}}
        for i in range(6)
    ]
    mapper = {"prompt": "talk", "sampling_column": "how", "output_model": list[int]}

    answered = (
        ray.data.from_items(rows)
        .map_batches(
            EngineMapper,
            fn_constructor_kwargs={"engine": {**config, "structured": "json_schema"}, **mapper},
            batch_format=form,
            batch_size=3,
            **pool,
        )
        .take_all()
    )

    assert [(row["id"], row["error"]) for row in answered] == [(i, None) for i in range(6)]
    assert all(type(json.loads(row["parsed"])) is list for row in answered)
    assert {call.json["max_tokens"] for call in server.calls} == set(range(50, 56))
    assert all("name" not in call.json["messages"][0] for call in server.calls)


def test_actor_that_dies_loses_no_row(
    ray: Any, pool: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    """Ray starts a new actor and gives it the batch again."""
    marker = tmp_path / "died"

    def prompt(row: dict[str, Any]) -> str:
        if row["id"] == 25 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"Repeat this: p{row['id']}"

    answered = (
        ray.data.range(40, override_num_blocks=4)
        .map_batches(
            EngineMapper,
            fn_constructor_kwargs={"engine": config, "prompt": prompt},
            batch_format="pyarrow",
            **pool,
        )
        .take_all()
    )

    assert marker.exists()
    assert [row["text"] for row in answered] == [f"p{i}" for i in range(40)]


def test_key_is_the_node_s_own(
    ray: Any, pool: dict[str, Any], server: MockServer, config: dict[str, Any]
) -> None:
    """The actor reads the variable; the plan has only its name."""
    plan = {"engine": {**config, "api_key_env": "NODE_KEY"}}

    dataset = ray.data.from_items([{"prompt": "Hi"}]).map_batches(
        EngineMapper, fn_constructor_kwargs=plan, batch_format="pyarrow", **pool
    )

    assert dataset.take_all()[0]["error"] is None
    assert server.calls[-1].headers["authorization"] == "Bearer sk-of-the-node"


def test_batch_on_actors_loses_nothing(
    ray: Any, pool: dict[str, Any], server: MockServer, config: dict[str, Any], tmp_path: Path
) -> None:
    """There is one line per request, a report with every call, and no folder of parts."""
    assert ray.is_initialized()
    server.play(Script(faults=_every_fifth()))
    output, requests = tmp_path / "out.jsonl", _requests(FEWER)
    seen: list[int] = []

    report = run_batch(
        [*requests, {"custom_id": "bad"}],
        output,
        {**config, "max_retries": 2},
        actors=ACTORS,
        rows_per_part=100,
        num_cpus=pool["num_cpus"],
        on_progress=lambda progress: seen.append(progress.done),
    )

    progress = report.progress
    assert progress.attempts == len(server.calls)
    assert progress.answered + progress.failed == progress.total == FEWER + 1
    assert seen == sorted(seen)
    assert len(seen) == 10
    lines = list(read_batch(output, requests))
    assert [line and line["custom_id"] for line in lines] == [r["custom_id"] for r in requests]
    assert sum(line is not None and line["error"] is None for line in lines) == progress.answered
    assert len(output.read_bytes().splitlines()) == FEWER + 1
    assert len(report.errors) == 5
    assert not (tmp_path / "out.jsonl.parts").exists()

    server.play(Script())
    before = len(server.calls)
    again = run_batch(requests, output, config, actors=ACTORS, only_failed=True, num_cpus=0.5)
    assert again.ok
    assert len(server.calls) - before == progress.failed - 1
    assert run_batch(requests, output, config, actors=ACTORS).progress.earlier == FEWER


DRIVER = """
import os, sys, json
from llmengine.integrations.ray_data import run_batch
import ray

source, output, config, local = sys.argv[1:]
ray.init(num_cpus=2, object_store_memory=100 * 2**20, **json.loads(local))
run_batch(source, output, json.loads(config), actors=2, rows_per_part=150, num_cpus=0.5)
"""


@pytest.mark.parametrize("everything", [True, False])
def test_killed_run_is_picked_up(
    ray: Any, server: MockServer, config: dict[str, Any], tmp_path: Path, *, everything: bool
) -> None:
    """After kill -9, only requests without a written answer are sent again.

    Actors that outlive their driver finish their parts; those that do not leave them half done.
    """
    assert ray.is_initialized()
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests = _requests(FEWER)
    source.write_text("".join(json.dumps(r) + "\n" for r in requests), "utf-8")
    engine = {**config, "max_concurrency": 8}
    server.play(Script(faults=[Fault(delay=0.02)] * 20_000))
    arguments = [str(source), str(output), json.dumps(engine), json.dumps(LOCAL)]
    command = [sys.executable, "-c", DRIVER, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as driver:
        while len(server.calls) < FEWER // 2:
            assert driver.poll() is None
            time.sleep(0.005)
        for pid in [*(_below(driver.pid) if everything else []), driver.pid]:
            os.kill(pid, signal.SIGKILL)
    _until_quiet(server)
    server.play(Script())
    parts = list((tmp_path / "out.jsonl.parts").glob("*.jsonl"))
    written = sum(p.read_bytes().count(b"\n") for p in [output, *parts])
    sent = len(server.calls)
    assert parts
    assert everything <= sent - written <= ACTORS * 8
    assert sent < FEWER

    report = run_batch(source, output, engine, actors=ACTORS, num_cpus=0.5)

    assert report.ok
    assert report.progress.earlier == written
    assert len(server.calls) == FEWER + sent - written
    assert Counter(json.loads(x)["custom_id"] for x in output.read_bytes().splitlines()) == Counter(
        r["custom_id"] for r in requests
    )
    assert not (tmp_path / "out.jsonl.parts").exists()


def _below(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [p for child in children for p in (*_below(child), child)]


def _until_quiet(server: MockServer) -> None:
    """Wait until the actors of the dead driver have ended too."""
    seen = -1
    while seen != (seen := len(server.calls)):
        time.sleep(1)
