"""What a prompt and a piece of a stream cost, as counts, which do not depend on the machine's load.

If a change needs more on purpose: ``python tools/counts.py --write``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from counts import LIMITS, PYTHON, Counts, limits

TOOL = Path(__file__).parents[2] / "tools" / "counts.py"

# A count may grow by this share, and by this much.
_SHARE = 0.05
_SLACK = {
    "calls": 2.0,
    "tasks": 0.2,
    "timers": 0.05,
    "callbacks": 0.3,
    "switches": 0.3,
    "kept": 1.0,
    "left": 0.3,
}
_ROUNDS = 3


def grown(found: dict[str, Counts], allowed: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """What is over its limit, each with the functions whose calls have grown most."""
    problems = []
    for call, counts in found.items():
        numbers, functions = allowed[call]["numbers"], allowed[call]["functions"]
        over = [
            f"{call}: {value:.2f} {name}, at most {numbers[name]:.2f} + {_SHARE:.0%}"
            for name, value in counts.numbers.items()
            if value > numbers[name] * (1 + _SHARE) + _SLACK[name]
        ]
        if over:
            more = {f: n - functions.get(f, 0) for f, n in counts.functions.items()}
            most = sorted(more.items(), key=lambda item: -item[1])[:10]
            problems += over + [f"    {n:+.2f} calls of {f}" for f, n in most if n > 0]
    return problems


def measured() -> dict[str, Counts]:
    """The counts in a process of its own, in which no other test has left anything."""
    done = subprocess.run(
        [sys.executable, str(TOOL), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {name: Counts(**counts) for name, counts in json.loads(done.stdout).items()}


def test_nothing_costs_more_than_it_did() -> None:
    """No count of a prompt or of a piece of a stream has grown."""
    allowed = limits().get(PYTHON)
    if allowed is None:
        pytest.skip(f"{LIMITS.name} has no counts for Python {PYTHON}")
    problems: list[str] = []
    for _ in range(_ROUNDS):  # what really costs more does so each time
        problems = grown(measured(), allowed)
        if not problems:
            return
    pytest.fail("\n".join([*problems, "see the docstring of this file"]), pytrace=False)


def test_what_has_grown_is_named() -> None:
    """The message has the number, its limit, and the function that is called more often."""
    before = {"calls": 10.0, "tasks": 0.0}
    allowed = {"stream": {"numbers": before, "functions": {"engine/stream.py:read": 1.0}}}
    now = Counts(
        {"calls": 14.0, "tasks": 0.1}, {"engine/stream.py:read": 1.0, "engine/new.py:f": 4.0}
    )

    assert grown({"stream": now}, allowed) == [
        "stream: 14.00 calls, at most 10.00 + 5%",
        "    +4.00 calls of engine/new.py:f",
    ]
    assert not grown({"stream": Counts({"calls": 12.0, "tasks": 0.1}, {})}, allowed)
