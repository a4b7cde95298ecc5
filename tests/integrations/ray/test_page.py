"""The programs of docs/ray.md and its examples work as described."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmengine.mock import MockServer

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "ray.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is missing; run: pip install 'pytest-llmengine[ray]', or nox -s ray",
)


def _run(arguments: list[str], folder: Path) -> str:
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **quiet},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_ray
@pytest.mark.parametrize(("place", "lines"), [(0, 3), (1, 41)])
def test_program_of_the_page_runs(place: int, lines: int, tmp_path: Path) -> None:
    """Each block is a complete program, which prints its rows."""
    assert len(_run(["-c", BLOCKS[place]], tmp_path).splitlines()) == lines


@needs_ray
def test_example_asks_a_file(tmp_path: Path) -> None:
    """The program that the manifest starts has the manifest's options."""
    manifest, _volume = yaml.safe_load_all(
        (ROOT / "examples" / "kubernetes" / "rayjob.yaml").read_text("utf-8")
    )
    given = manifest["spec"]["entrypoint"].split()[4:]
    body = {"messages": [{"role": "user", "content": "Repeat this: ant"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(line), "utf-8")

    with MockServer(model=given[given.index("--model") + 1]) as server:
        here = ["--url", server.base_url, "--key-env", "HOME", "--actors", "1"]
        program = str(ROOT / "examples" / "ray_batch.py")
        said = _run([program, "in.jsonl", "out.jsonl", *given, *here], tmp_path)

    assert "1 of 1, 0 failed" in said
    assert '"ant"' in (tmp_path / "out.jsonl").read_text("utf-8")


def test_manifest_gives_every_pod_the_key_and_the_volume() -> None:
    """Head and workers have one image, one environment and one volume."""
    manifest, volume = yaml.safe_load_all(
        (ROOT / "examples" / "kubernetes" / "rayjob.yaml").read_text("utf-8")
    )
    cluster = manifest["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in cluster["workerGroupSpecs"]]
    head = cluster["headGroupSpec"]["template"]["spec"]

    for pod in pods:
        for key in ("image", "env", "volumeMounts"):
            assert pod["containers"][0][key] == head["containers"][0][key]
        assert pod["volumes"] == head["volumes"]
    assert volume["metadata"]["name"] == "llm-batch"
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert cluster["rayVersion"] in head["containers"][0]["image"]
