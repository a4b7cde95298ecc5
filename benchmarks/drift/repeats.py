"""Check a server that has not changed many times in a row, and count the alarms.

    python benchmarks/drift/repeats.py embedded --runs 50

Arguments after ``--`` are added to ``llmengine drift record`` and ``check``, such as the address of
a server. The embedded engine is a new process of llama.cpp in each check. Every check draws the
order and the load of its requests anew. The exit status is 1 if any check does not say "same".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any


def main() -> None:
    """Record a baseline, check it, and print one line per check and a summary."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        baseline, report = Path(folder, "baseline.jsonl.gz"), Path(folder, "report.json")
        drift("record", options.target, "-o", str(baseline), *options.arguments)
        verdicts: Counter[str] = Counter()
        for run in range(1, options.runs + 1):
            target = [options.target] if options.arguments else []
            drift("check", str(baseline), *target, *options.arguments, "--report", str(report))
            found: dict[str, Any] = json.loads(report.read_text("utf-8"))
            report.unlink()
            verdicts[found["verdict"]] += 1
            load = os.getloadavg()[0]
            print(f"{run:4} load {load:5.1f}  {found['verdict']}: {found['reason']}", flush=True)
    print(f"{options.runs} checks: {dict(verdicts)}")
    sys.exit(set(verdicts) != {"same"})


def drift(command: str, *arguments: str) -> None:
    """Run one command; its report tells the verdict, so that only errors end the program."""
    program = [sys.executable, "-m", "pytest_llmengine.cli", "drift", command]
    ran = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    written = "--report" not in arguments or Path(arguments[-1]).exists()
    if not written or (command == "record" and ran.returncode):
        sys.exit(f"drift {command} ended with {ran.returncode}: {ran.stderr}")


def _options() -> argparse.Namespace:
    own, others = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, others = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="as for `llmengine drift record`")
    parser.add_argument("--runs", type=int, default=50, help="checks after the baseline")
    options = parser.parse_args(own)
    options.arguments = others
    return options


if __name__ == "__main__":
    main()
