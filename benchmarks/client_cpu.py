"""Measure the CPU time per chat completion of this and other clients.

    python -m pip install --editable . --group bench
    python benchmarks/client_cpu.py

Every client runs in its own process, with one minimal server in another process. The clients take
turns, round by round. CPU is the process's user and system time in the measured phase, divided by
the requests. The table shows the median of the rounds, the lowest and the highest, and the ratio of
the median to that of bare aiohttp. With ``--beside``, llmengine from another checkout takes its
turns too:

    python benchmarks/client_cpu.py --beside ../before/src

``protocol`` is an asyncio.Protocol that knows this server's answers, which is the floor. Three
clients are parts of llmengine, for a profile by subtraction, and only run if ``--clients`` names
them: ``transport`` is its transport without an engine, ``layers`` its engine with a transport that
has each answer after 50 ms without a server, and ``llmengine_aiohttp`` its engine over aiohttp.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
OURS = "pytest-llmengine"
PACKAGES = {
    "protocol": "orjson",
    "aiohttp": "aiohttp",
    "pyreqwest": "pyreqwest",
    "llmengine": OURS,
    "httpx": "httpx",
    "httpx2": "httpx2",
    "openai": "openai",
    "litellm": "litellm",
    "any_llm": "any-llm-sdk",
    "langchain": "langchain-openai",
    "dspy": "dspy",
    "transport": OURS,
    "layers": OURS,
    "llmengine_aiohttp": OURS,
}
PARTS = ("transport", "layers", "llmengine_aiohttp")
BESIDE = "llmengine (--beside)"
LIMIT_S = 600


def main() -> None:
    """Run every client in turn and print the table."""
    options = _options()
    clients = [*options.clients, *([BESIDE] if options.beside else [])]
    load = os.getloadavg()[0]
    print(f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    for size in options.answer:
        rows: dict[tuple[str, int], list[float]] = {}
        problems: dict[tuple[str, int], str] = {}
        for url in _server(size):
            for _ in range(options.rounds):
                for in_flight in options.in_flight:
                    for client in clients:
                        key = (client, in_flight)
                        if key in problems:
                            continue
                        micros, problem = _measure(client, in_flight, url, options)
                        found = problem or f"{micros:,.0f} us"
                        print(f"{client} at {in_flight:,} in flight: {found}", file=sys.stderr)
                        if problem:
                            problems[key] = problem
                        else:
                            rows.setdefault(key, []).append(micros)
        print(f"\nA text of {size:,} bytes; load {load:.0f} to {os.getloadavg()[0]:.0f}\n")
        _print(clients, options.in_flight, rows, problems)


def _options() -> argparse.Namespace:
    default = [client for client in PACKAGES if client not in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 1000])
    parser.add_argument("--answer", type=int, nargs="+", default=[500], help="bytes of the text")
    parser.add_argument("--clients", nargs="+", choices=PACKAGES, default=default)
    parser.add_argument("--requests", type=int, default=4000, help="measured requests per run")
    parser.add_argument("--seconds", type=float, default=10, help="a slow client's time per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="the src folder of another checkout")
    return parser.parse_args()


def _server(size: int) -> Iterator[str]:
    command = [sys.executable, str(HERE / "minimal_server.py"), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def _measure(
    client: str, in_flight: int, url: str, options: argparse.Namespace
) -> tuple[float, str]:
    """Microseconds of CPU per request, or the reason why it could not be measured."""
    name = "llmengine" if client == BESIDE else client
    try:
        version(PACKAGES[name])
    except PackageNotFoundError:
        return 0.0, "not installed"
    numbers = map(str, (in_flight, options.requests, url, options.seconds))
    environment = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LLMENGINE_MAX_CONCURRENCY": str(max(1000, in_flight)),
    }
    if client == BESIDE:
        environment["PYTHONPATH"] = str(options.beside)
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / "one_client.py"), name, *numbers],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return 0.0, f"not done in {LIMIT_S} s"
    if done.returncode:
        return 0.0, f"failed: {(done.stderr.strip() or 'no message').splitlines()[-1][:60]}"
    return float(json.loads(done.stdout)["micros"]), ""


def _print(
    clients: list[str],
    in_flight: list[int],
    rows: dict[tuple[str, int], list[float]],
    problems: dict[tuple[str, int], str],
) -> None:
    heads = [f"CPU at {n:,} in flight | lowest to highest | x aiohttp" for n in in_flight]
    print(f"| client | version | {' | '.join(heads)} |")
    print("|---|---|" + "---|---|---|" * len(in_flight))
    for client in clients:
        cells: list[Any] = [client, _version(PACKAGES[client]) if client in PACKAGES else "-"]
        for n in in_flight:
            cells += _cells(rows, problems, client, n)
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def _cells(rows: Any, problems: Any, client: str, n: int) -> list[str]:
    if (client, n) in problems:
        return [problems[client, n], "-", "-"]
    found = rows[client, n]
    base = rows.get(("aiohttp", n))
    ratio = statistics.median(found) / statistics.median(base) if base else None
    return [
        f"{statistics.median(found):,.0f} us",
        f"{min(found):,.0f} to {max(found):,.0f}",
        f"{ratio:.2f}" if ratio else "-",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


if __name__ == "__main__":
    main()
