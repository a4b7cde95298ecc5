"""The journal of a watch: kept under kill, for one baseline and one rate, with one writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from llmengine.types.errors import ConfigError
from pytest_llmengine.drift import DriftError
from pytest_llmengine.drift.journal import (
    JournalHead,
    WatchLook,
    digest_of,
    journal_of,
    open_journal,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_llmengine.drift import Baseline, DriftSession

LOOK = WatchLook(date="2026-01-01", scores={"text": (0.0, 0.25)}, e_values={"text": 0.9})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two looks."""
    path = tmp_path / "x.journal.jsonl"
    with open_journal(path) as journal:
        assert journal.begin("one", None, "2026-01-01", "0") == 0.01
        journal.add(LOOK)
        journal.add(LOOK)
    return path


def test_looks_are_read_again(path: Path) -> None:
    """With the rate that the first run chose."""
    with open_journal(path) as journal:
        assert journal.begin("one", 0.01, "2026-01-02", "0") == 0.01
        assert (journal.looks, journal.torn) == ([LOOK, LOOK], False)


@pytest.mark.parametrize(
    ("digest", "alpha", "reason"),
    [
        ("two", None, "belongs to another baseline, of 2026-01-01: give that baseline, move"),
        ("one", 0.05, "has a false-alarm rate of 0.01, which holds for all .*; leave out --alpha"),
    ],
)
def test_what_cannot_be_changed_midway(
    path: Path, digest: str, alpha: float | None, reason: str
) -> None:
    """The baseline and the rate; the journal stays as it is."""
    before = path.read_bytes()
    with open_journal(path) as journal, pytest.raises(DriftError, match=reason):
        journal.begin(digest, alpha, "2026-01-02", "0")
    assert path.read_bytes() == before


def test_a_new_baseline_begins_anew(path: Path) -> None:
    """The looks at the old one stay in the file."""
    with open_journal(path) as journal:
        journal.accept(JournalHead(baseline="two", alpha=0.05, date="2026-02-01", tool_version="0"))
        journal.add(LOOK)
    with open_journal(path) as journal:
        assert journal.begin("two", None, "2026-02-02", "0") == 0.05
        assert (journal.looks, journal.earlier) == ([LOOK], 2)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_torn_last_line_is_removed_and_said(path: Path, cut: int) -> None:
    """A line that lacks only its newline is complete."""
    path.write_bytes(path.read_bytes()[:-cut])
    with open_journal(path) as journal:
        assert len(journal.looks) == (2 if cut == 1 else 1)
        assert journal.torn is (cut > 1)
        journal.add(LOOK)
    with open_journal(path) as journal:
        assert len(journal.looks) == (3 if cut == 1 else 2)


def test_a_look_is_on_the_disk_before_a_kill(path: Path) -> None:
    """Also if the process gets no chance to close the file."""
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from pytest_llmengine.drift.journal import WatchLook, open_journal\n"
        "with open_journal(Path(sys.argv[1])) as journal:\n"
        "    journal.add(WatchLook(date='2026-01-03'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, path], timeout=60, check=False)
    assert run.returncode == (-signal.SIGKILL if os.name == "posix" else signal.SIGKILL)
    with open_journal(path) as journal:
        assert [look.date for look in journal.looks] == ["2026-01-01", "2026-01-01", "2026-01-03"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": 1}\n', "is not the journal of a watch; name another with --journal"),
        ("notes", "is not the journal of a watch"),
        ('{"format":"llmengine-drift-journal","version":2}\n', "line 1: .*head .* version 1"),
        ('{"format":"llmengine-drift-journal","version":1}\n', "line 1: baseline: Field required"),
    ],
)
def test_other_files_stay_as_they_are(tmp_path: Path, text: str, reason: str) -> None:
    """One clear error, and no repair of a file that is not a journal."""
    path = tmp_path / "other.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DriftError, match=reason), open_journal(path):
        pass
    assert path.read_text("utf-8") == text


@pytest.mark.parametrize("line", ['{"date":1}', '{"date":"x","scores":{"text":[NaN]}}', "[]"])
def test_a_line_that_no_look_wrote(path: Path, line: str) -> None:
    """The error names the file and the line."""
    path.write_bytes(path.read_bytes() + f"{line}\n".encode())
    with pytest.raises(DriftError, match=r"x\.journal\.jsonl, line 4: "), open_journal(path):
        pass


def test_one_run_at_a_time(path: Path) -> None:
    """A second look waits for no one."""
    with (
        open_journal(path),
        pytest.raises(ConfigError, match="another run is writing to it"),
        open_journal(path),
    ):
        pass


def test_the_digest_and_the_place_follow_from_the_baseline(
    tmp_path: Path,
    make_session: Callable[..., DriftSession],
    make_baseline: Callable[..., Baseline],
) -> None:
    """The digest is that of the content, wherever it was read from."""
    one = make_baseline([make_session()])
    assert digest_of(one) == digest_of(make_baseline([make_session()], source="elsewhere"))
    assert digest_of(one) != digest_of(make_baseline([make_session()] * 2))
    for name in ("x.jsonl", "x.jsonl.gz"):
        assert journal_of(tmp_path / name) == tmp_path / "x.journal.jsonl"
