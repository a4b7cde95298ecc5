"""Whether the process that owns a container is still there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.ownership import Owner


def test_this_process_is_alive_and_here() -> None:
    """The owner of a new run is this process."""
    owner = Owner.here()

    assert (owner.pid, owner.is_here, owner.is_alive) == (os.getpid(), True, True)
    assert owner.is_this_process
    assert owner.run != Owner.here().run


def test_labels_hold_all_of_an_owner() -> None:
    """The labels of a container give its owner again."""
    owner = Owner.here()

    assert Owner.from_labels(owner.to_labels()) == owner


@pytest.mark.parametrize("change", [{labels.PID: "many"}, {labels.PID: None}, {labels.RUN: None}])
def test_incomplete_labels_have_no_owner(change: dict[str, str | None]) -> None:
    """Nothing is removed because of them."""
    given = {k: v for k, v in (Owner.here().to_labels() | change).items() if v is not None}

    assert Owner.from_labels(given) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_process_number_that_is_used_again() -> None:
    """A process with the owner's id that started at another time is not the owner."""
    assert not replace(Owner.here(), started="1").is_alive


def test_process_that_ended_is_dead_also_before_it_is_reaped() -> None:
    """A killed child is not alive, also before its parent waits for it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner = replace(Owner.here(), pid=child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert not owner.is_alive
