"""The simulation of drift tests in its small form: false alarms are rare, and changes are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "drift_simulation.py"


def test_the_simulation(tmp_path: Path) -> None:
    """It ends with an error if a test has too many false alarms; a large change is always found."""
    chart = tmp_path / "simulation.svg"
    options = ["--years", "2", "--looks", "6", "--shifts", "0.05", "--svg", chart]
    command = [sys.executable, PROGRAM, *options, "--noise", "heavy-tailed", "drifting load"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    quiet, changed, once = run.stdout.strip().split("\n\n")
    assert re.findall(r"^(?:\d+ s|nights|rounds).* (\d+)$", quiet, re.MULTILINE) == ["0"] * 18
    found = re.findall(r"^(?:\d+ s|nights|rounds).*logprobs, .* 2 \(\d", changed, re.MULTILINE)
    assert len(found) == 8
    assert re.findall(r"^rounds.*, logprobs, .* (\d) +(\d)", once, re.MULTILINE) == [("0", "6")] * 3
    # Units that are not exchangeable raise false alarms, so the simulation is able to show them.
    assert re.search(r"^\* nights, logprobs, drifting load +2$", quiet, re.MULTILINE)
    assert re.search(r"^\* rounds at once, logprobs, drifting load +6 ", once, re.MULTILINE)
    assert chart.read_text(encoding="utf-8").count("<polyline") == 7
