"""The openai backend, recorded and replayed, with both generations of the SDK.

The installed generation always runs. To run the tests of this backend on openai 2.x too, name a
directory for its environment, which is made once: ``LLMENGINE_TEST_VENVS=~/.cache/llmengine-venvs
pytest tests/backends/test_openai_recorded.py``
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import SamplingParams
from llmengine.mock import MockServer, Script
from pytest_llmengine.recording import RecordServer, ReplayServer

openai = pytest.importorskip("openai")

OTHER = "openai==2.54.0"
ROOT = Path(__file__).parents[2]


class City(BaseModel):
    """An answer."""

    name: str
    people: int | None = None


def _said(engine: Any) -> list[Any]:
    """What an application gets: a model, a stream and an error."""
    parsed = engine.generate("A city.", output_model=City)[0].parsed
    streamed = [d.text for d in engine.stream("Say it.", SamplingParams(temperature=0))]
    refused = engine.results("x", extra_body={"temperature": 9})[0].error
    return [parsed, [text for text in streamed if text], type(refused), refused.status]


def test_replay_says_what_was_recorded(openai_engine: Any, api: str, tmp_path: Path) -> None:
    """Real sockets and the real SDK; the file has no key."""
    path, key = tmp_path / "openai.yaml", "sk-recorded-key-1234567890"
    script = Script(replies=['{"name": "Köln", "people": null}', "Grüße 😀"])
    with (
        MockServer(model="gpt-test", script=script, api_key=key) as mock,
        RecordServer(mock.root_url) as recorder,
        recorder.cassette(path),
    ):
        said = _said(openai_engine(f"{recorder.root_url}/v1", api, api_key=key))

    with ReplayServer() as player, player.cassette(path) as tape:
        again = _said(openai_engine(f"{player.root_url}/v1", api, api_key=key))

    assert said == again
    assert said[0] == City(name="Köln")
    assert (tape.unhandled, tape.unused) == ([], [])
    assert key not in path.read_text(encoding="utf-8")


def test_other_generation_of_the_sdk_passes_the_same_tests() -> None:
    """These files run again in an environment with the other SDK."""
    if "LLMENGINE_TEST_VENVS" not in os.environ:
        pytest.skip("needs an environment of its own: set LLMENGINE_TEST_VENVS to a directory")
    if openai.__version__.startswith("2."):
        pytest.skip("this is the other generation already")
    python = _python_with_other_sdk(Path(os.environ["LLMENGINE_TEST_VENVS"]) / "llmengine-openai-2")
    files = sorted(str(path) for path in Path(__file__).parent.glob("test_openai*.py"))
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    variables = {k: v for k, v in os.environ.items() if k != "LLMENGINE_TEST_VENVS"}

    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=variables | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def _python_with_other_sdk(home: Path) -> Path:
    """An environment that sees the installed packages, with the other SDK before them."""
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        packages = next(home.glob("[Ll]ib/**/site-packages"))
        (packages / "installed.pth").write_text("\n".join(p for p in sys.path if "site-p" in p))
        subprocess.run([python, "-m", "pip", "install", "-q", OTHER], check=True)
    return python
