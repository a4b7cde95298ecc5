"""The workflow in examples/github: its commands run, and stop what makes a server worse."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKFLOW = Path(__file__).parents[1] / "examples" / "github" / "contract.yml"
PORT = "8000"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Runs a step as GitHub does, on another port; what it leaves running is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    groups = []

    def run_step(command: str) -> tuple[int, str]:
        with (tmp_path / "output").open("w+", encoding="utf-8") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", command.replace(PORT, port)],
                cwd=tmp_path,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            groups.append(process.pid)
            status = process.wait(timeout=120)
        return status, (tmp_path / "output").read_text("utf-8")

    yield run_step
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the workflow uses curl")
def test_steps_run_and_stop_a_server_that_got_worse(
    run: Callable[[str], tuple[int, str]], tmp_path: Path
) -> None:
    """The commands of the workflow, and the one in its comment that makes the first report."""
    text = WORKFLOW.read_text("utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    install, start, check, compare = [step["run"] for step in job["steps"] if "run" in step]
    first = re.findall(r"^#   (llmengine .*)$", text, re.MULTILINE)

    assert install == "python -m pip install pytest-llmengine"
    for command in (start, *first, check, compare):
        status, output = run(command)
        assert status == 0, output
    uploaded = json.loads((tmp_path / "contract.sarif").read_text("utf-8"))
    assert uploaded["runs"][0]["results"] == []
    summary = (tmp_path / "summary.md").read_text("utf-8")
    assert re.findall("^# .*", summary, re.MULTILINE)[-1] == "# Contract changes"

    new = json.loads((tmp_path / "new.json").read_text("utf-8"))
    row = next(row for row in new["checks"] if row["level"] == "expected")
    row |= {"outcome": "fail", "observed": "fail", "accepted": False, "reason": "it broke"}
    (tmp_path / "new.json").write_text(json.dumps(new), "utf-8")
    status, output = run(compare)
    assert (status, row["id"] in output) == (1, True)
