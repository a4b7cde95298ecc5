"""Measure what the client of ``llmengine bench`` adds to the times of a server, at several rates.

    python benchmarks/bench_overhead.py

The server is the minimal one that the command itself uses: a process of its own that sends each of
the 16 events of an answer after 5 ms. The rows are measured one after the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from pytest_llmengine.bench.render import percentile_text
from pytest_llmengine.bench.run import EVENTS, run_overhead
from pytest_llmengine.bench.summary import Overhead

RATES = (10, 50, 100, 200, 400)


def main() -> None:
    """Measure the rates in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seconds", type=float, default=20, help="per rate")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(
        "| requests/s | events/s | answers | TTFT late by, p50 | p99 | ITL wrong by, p50 | p99 | "
        "CPU per answer | of a core | load |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rate in options.rates:
        found = Overhead.of(run_overhead(rate, options.seconds))
        ttft, itl = found.first_token.percentiles, found.gap.percentiles
        print(
            f"| {rate:g} | {rate * EVENTS:,.0f} | {found.answers} | {percentile_text(ttft[0])} | "
            f"{percentile_text(ttft[-1])} | {percentile_text(itl[0])} | {percentile_text(itl[-1])} "
            f"| {1000 * found.cpu:.2f} ms | {found.cpu * rate:.0%} | {os.getloadavg()[0]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
