"""Measure the import time of the package and httpx, and pytest's start with and without the plugin.

    python benchmarks/import_time.py

Each number is the median of fresh processes that take turns, forwards and backwards.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 25
STATEMENTS = {
    "nothing": "pass",
    "import httpx": "import httpx",
    "import llmengine": "import llmengine",
    "the names of a first call": "from llmengine import EngineConfig, SamplingParams",
    "an engine": (
        "from llmengine import EngineConfig; "
        "EngineConfig(backend='vllm_api', model='m', endpoint='http://127.0.0.1:9').engine"
    ),
    "import openai": "import openai",
}


def main() -> None:
    """Time the statements and the two kinds of pytest start, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_nothing.py").write_text("def test_nothing():\n    pass\n", "utf-8")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        commands = {name: [sys.executable, "-c", code] for name, code in STATEMENTS.items()}
        commands["pytest without the plugin"] = [*pytest, "-p", "no:llmengine"]
        commands["pytest with the plugin, unused"] = pytest
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(ROUNDS):
            order = list(commands.items())
            for name, command in order if turn % 2 else reversed(order):
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, check=False, cwd=folder)
                if done.returncode == 0:
                    times[name].append(time.perf_counter() - start)
    base = statistics.median(times["nothing"])
    print("| what | median | beyond an empty process |\n|---|---|---|")
    for name, seconds in times.items():
        if seconds:
            median = statistics.median(seconds)
            print(f"| {name} | {1e3 * median:.0f} ms | {1e3 * (median - base):.0f} ms |")
        else:
            print(f"| {name} | not installed | - |")


if __name__ == "__main__":
    main()
