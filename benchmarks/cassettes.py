"""Measure how long cassettes take to save and to load, beside vcrpy, on the same exchanges.

    python benchmarks/cassettes.py

The exchanges are chat completions, every second one a stream of 40 events, as the mock server sends
them. Saving and loading take turns, round by round; the table shows medians and their ratio to
vcrpy. Ours includes what vcrpy does not do: chunks and times are kept, every body is redacted, each
exchange is on disk as soon as it ends, and every answer is checked when it is loaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from vcr import VCR

from llmengine.mock import MockServer
from pytest_llmengine.recording import (
    Provenance,
    RecordCassette,
    RecordingConfig,
    RecordServer,
    ReplayCassette,
)
from pytest_llmengine.recording.cassette_file import CassetteFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.recording.cassette_file import RecordedExchange

MODEL = "mock"
STREAMED_TOKENS = 38


def main() -> None:
    """Make the exchanges, and save and load them by both libraries in turns."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        exchanges = _exchanges(options.exchanges, Path(folder))
        ours, theirs = Path(folder) / "ours.yaml", Path(folder) / "theirs.yaml"
        actions: dict[str, Callable[[], object]] = {
            "save, llmengine": lambda: _save(exchanges, ours),
            "save, vcrpy": lambda: _save_by_vcrpy(exchanges, theirs),
            "load, llmengine": lambda: ReplayCassette.load(ours, RecordingConfig()),
            "load, vcrpy": lambda: _load_by_vcrpy(theirs),
        }
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(options.rounds):
            for name, action in actions.items():
                began = time.perf_counter()
                action()
                times[name].append(time.perf_counter() - began)
        _print(options.exchanges, times, {"llmengine": ours, "vcrpy": theirs})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exchanges", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _exchanges(count: int, folder: Path) -> list[RecordedExchange]:
    """Exchanges with a mock server, recorded chunk by chunk."""
    path = folder / "recorded.yaml"
    with (
        MockServer() as server,
        RecordServer(server.root_url) as recorder,
        recorder.cassette(path),
        httpx.Client(base_url=recorder.root_url) as client,
    ):
        for number in range(count):
            messages = [{"role": "user", "content": f"Tell me about the number {number}."}]
            body = {"model": MODEL, "messages": messages, "max_tokens": STREAMED_TOKENS}
            client.post("/v1/chat/completions", json=body | {"stream": number % 2 == 1})
    return list(CassetteFile.read(path).exchanges)


def _save(exchanges: list[RecordedExchange], path: Path) -> None:
    path.unlink(missing_ok=True)  # else it would be compared with the recording before
    cassette = RecordCassette(path, Provenance("mock"), RecordingConfig())
    for exchange in exchanges:
        cassette.put(cassette.begin(), exchange.request, exchange.answer)
    cassette.save()


def _save_by_vcrpy(exchanges: list[RecordedExchange], path: Path) -> None:
    path.unlink(missing_ok=True)
    with VCR().use_cassette(path) as cassette:  # it saves when the block ends
        for exchange in exchanges:
            cassette.append(exchange.request, _response(exchange))


def _load_by_vcrpy(path: Path) -> None:
    with VCR().use_cassette(path, record_mode="none"):
        pass


def _response(exchange: RecordedExchange) -> dict[str, Any]:
    answer = exchange.answer
    return {
        "status": {"code": answer.status, "message": answer.reason},
        "headers": {name: [value] for name, value in answer.headers},
        "body": {"string": answer.body},
    }


def _print(count: int, times: dict[str, list[float]], files: dict[str, Path]) -> None:
    reader = "libYAML" if hasattr(yaml, "CSafeLoader") else "PyYAML without libYAML"
    when = f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}"
    print(f"{when}, {reader}, {count} exchanges\n")
    print("| library | version | save | x vcrpy | load | x vcrpy | file |")
    print("|---|---|---|---|---|---|---|")
    for name, package in (("llmengine", "pytest-llmengine"), ("vcrpy", "vcrpy")):
        cells = [name, version(package)]
        for action in ("save", "load"):
            median, base = (statistics.median(times[f"{action}, {one}"]) for one in (name, "vcrpy"))
            cells += [f"{median:.2f} s", f"{median / base:.2f}"]
        print("| " + " | ".join([*cells, f"{files[name].stat().st_size / 1e6:.1f} MB"]) + " |")


if __name__ == "__main__":
    main()
