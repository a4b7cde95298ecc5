"""The examples of docs/worker.md work unchanged, except for the address of the server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "worker.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
DEVELOPMENT, PRODUCTION = re.findall(r"^```dotenv\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.usefixtures("clean_folder")


@pytest.fixture
def ollama() -> Iterator[MockServer]:
    """A server in place of the page's Ollama."""
    with MockServer(model="qwen2.5:3b-instruct") as server:
        yield server


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_of_the_page_runs(program: str, clean_folder: Path, ollama: MockServer) -> None:
    """Each block is run as a program, in a folder with the page's .env file."""
    settings = DEVELOPMENT.replace("http://localhost:11434", ollama.root_url)
    (clean_folder / ".env").write_text(settings, "utf-8")

    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=clean_folder,
    )

    assert done.returncode == 0, done.stderr
    assert len(ollama.calls) == (1 if "get_worker" in program else 0)


def test_production_settings_of_the_page_are_enough(clean_folder: Path) -> None:
    """The second .env of the page makes the other worker."""
    (clean_folder / ".env").write_text(PRODUCTION, "utf-8")
    program = "from llmengine import get_worker; print(get_worker().api_url)"

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == "https://example.koyeb.app/v1"
