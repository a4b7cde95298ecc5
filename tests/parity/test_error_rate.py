"""The false-alarm rate of the run holds on simulated servers, and attacks of gateways are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "parity_simulation.py"


def test_the_simulation() -> None:
    """In its small form: it ends with an error if there are too many false alarms."""
    command = [sys.executable, PROGRAM, "--runs", "6", "--prompts", "32", "--alpha", "0.2"]
    command += ["--margin", "0.1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    rows = dict(re.findall(r"^(\S.*?)  +(\d+) +\d+$", run.stdout, re.MULTILINE))
    assert int(rows["2% of the texts cut"]) >= 3  # there is no cut text in a quarter of the runs
    assert int(rows["two texts swapped"]) == 6
    assert int(rows["two texts swapped, ids and log-probabilities stripped"]) == 6
    assert int(rows["5% of the answers other, ids and log-probabilities stripped"]) == 6
    # A margin allows as many prompts to differ, and not twice as many.
    assert int(rows["none, 3 differ"]) == int(rows["few prompts, 3 differ"]) == 0
    assert int(rows["none, 6 differ"]) == 6
    # Passes that share their noise are seen, and are no change.
    cannot_tell = re.search(r"^\* passes +\d+ +(\d+)$", run.stdout, re.MULTILINE)
    assert cannot_tell
    assert int(cannot_tell[1]) >= 4
