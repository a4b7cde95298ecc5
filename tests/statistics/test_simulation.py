"""The simulation of drift tests in its small form: false alarms are rare, and changes are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "drift_simulation.py"


def test_the_simulation() -> None:
    """It ends with an error if a test has too many false alarms; a large change is always found."""
    command = [sys.executable, PROGRAM, "--years", "1", "--looks", "6", "--shifts", "0.05"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert re.findall(r"^(?:nights|rounds).* (\d) of 1$", run.stdout, re.MULTILINE) == ["0"] * 9
    assert re.findall(r"^(?:nights|rounds).*, .* (\d) +\d", run.stdout, re.MULTILINE) == ["1"] * 9
    assert re.findall(r"^logprobs, .* (\d)$", run.stdout, re.MULTILINE) == ["6"] * 6
    # Units that are not exchangeable raise false alarms, so the simulation is able to show them.
    assert "* logprobs, rounds at once, correlated           6     6" in run.stdout
