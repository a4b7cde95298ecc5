"""Measure what one event of a streamed answer costs in this and other clients.

    python -m pip install --group bench
    python benchmarks/stream_cost.py

Every client runs in its own process, with one server in another process that sends one event per
write. The clients take turns, round by round. CPU is the process's user and system time, divided by
the events. The delay is the time from just before the server's write until the text is in the
hand of the reader. The table shows medians of the rounds and their range. With ``--beside``,
llmengine from another checkout takes its turns too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from one_stream_client import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SERVER = HERE.parent / "pytest_llmengine" / "bench" / "stream_server.py"
BESIDE = " (--beside)"
LIMIT_S = 120
# So many events per stream, and seconds between two of a stream, by the number of streams. The
# server sends 500 events per second for one stream, and about 2,500 for many.
LOADS = {1: (1000, 0.002), 64: (200, 0.025), 512: (20, 0.2)}


def main() -> None:
    """Run every client in turn and print the tables."""
    options = _options()
    for streams in options.streams:
        rows, problems = _measured(streams, options)
        _print(streams, rows, problems, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=list(LOADS), choices=LOADS)
    parser.add_argument("--per-write", type=int, default=1, help="events that are sent at once")
    parser.add_argument("--spread", action="store_true", help="streams do not get events together")
    parser.add_argument(
        "--slower", type=int, default=1, help="so many times fewer events per second, if it is busy"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", nargs="+", default=list(CLIENTS), choices=CLIENTS)
    parser.add_argument("--beside", type=Path, help="the src folder of another checkout")
    return parser.parse_args()


def _measured(
    streams: int, options: argparse.Namespace
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    clients = list(options.clients)
    if options.beside:
        clients += [name + BESIDE for name in clients if name.startswith("llmengine")]
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    problems: dict[str, str] = {}
    with _server(streams, options) as url:
        for _ in range(options.rounds):
            for client in clients:
                if client not in problems:
                    row, problem = _measure(client, streams, url, options.beside)
                    if problem:
                        problems[client] = problem
                    else:
                        rows[client].append(row)
    return rows, problems


@contextmanager
def _server(streams: int, options: argparse.Namespace) -> Iterator[str]:
    events, seconds = LOADS[streams]
    events, seconds = events // options.slower, seconds * options.slower
    per_write = options.per_write
    command = [SERVER, events, seconds * per_write, per_write]
    if options.spread:
        command.append("spread")
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def _measure(
    client: str, streams: int, url: str, beside: Path | None
) -> tuple[dict[str, float], str]:
    """The figures of one run, or the reason why there are none."""
    name = client.removesuffix(BESIDE)
    command = [sys.executable, str(HERE / "one_stream_client.py"), name, str(streams), url]
    environment = dict(os.environ)
    if name != client:
        environment["PYTHONPATH"] = str(beside)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return {}, f"not done in {LIMIT_S} s"
    if done.returncode:
        return {}, f"failed: {(done.stderr.strip() or 'no message').splitlines()[-1][:60]}"
    return json.loads(done.stdout), ""


def _print(
    streams: int,
    rows: dict[str, list[dict[str, float]]],
    problems: dict[str, str],
    options: argparse.Namespace,
) -> None:
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    together = "spread" if options.spread else "together"
    print(
        f"\n{streams} streams, {together}, {options.per_write} events per write, "
        f"{1 / LOADS[streams][1] / options.slower:.3g} writes per second each, "
        f"{options.rounds} rounds; "
        f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores, "
        f"load {load}\n"
    )
    print("| client | CPU per event | range | x aiohttp | delay p50 | delay p99 |")
    print("|---|---|---|---|---|---|")
    base = statistics.median(r["micros"] for r in rows["aiohttp"]) if rows["aiohttp"] else None
    for client, runs in rows.items():
        if not runs:
            continue
        cpu = [run["micros"] for run in runs]
        middle = statistics.median(cpu)
        ratio = f"{middle / base:.2f}" if base else "-"
        delays = [statistics.median(run[name] for run in runs) for name in ("p50", "p99")]
        print(
            f"| {client} | {middle:.0f} us | {min(cpu):.0f} to {max(cpu):.0f} | {ratio} | "
            + " | ".join(f"{delay:,.0f} us" for delay in delays)
            + " |"
        )
    for client, problem in problems.items():
        print(f"| {client} | {problem} | - | - | - | - |")


if __name__ == "__main__":
    main()
