"""Tables on terminals: at every width the whole text is there and can be copied."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = """
- {name: laptop, backend: ollama_api, model: "qwen2.5:3b-instruct"}
- name: h100
  backend: vllm_api
  model: nvidia/nemotron-3-8b-instruct
  endpoint: https://example.koyeb.app/v1
"""
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(command: list[str], width: int, folder: Path) -> list[str]:
    """The output of a command on a terminal of that width, without styles."""
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.DEVNULL, env=env, cwd=folder
    ) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the error that Linux gives at the end of a terminal
                break
            if not piece:
                break
            printed += piece
    os.close(ours)
    assert process.returncode == 0
    return [STYLE.sub("", line).rstrip() for line in printed.decode().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_engines_can_be_read_at_any_width(
    width: int, command: list[str], clean_folder: Path
) -> None:
    """No name, address or model is cut, and no line is wider than the terminal."""
    (clean_folder / "engines.yaml").write_text(ENGINES, "utf-8")
    lines = on_terminal(
        [*command, "engines", "list", "--config", "engines.yaml"], width, clean_folder
    )

    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    for cell in ("laptop", "ollama_api", "qwen2.5:3b-instruct", "the engines file"):
        assert any(cell in line for line in lines), cell
    assert "https://example.koyeb.app/v1" in "".join(line.strip() for line in lines)


def test_backends_are_one_line_each_at_80_columns(command: list[str], clean_folder: Path) -> None:
    """Text that would repeat their names is left out for this."""
    head, *rows = on_terminal([*command, "engines", "list"], 80, clean_folder)

    assert head.split() == ["name", "address", "set", "by", "model", "docker"]
    assert any(
        row.split() == ["openai", "https://api.openai.com/v1", "default", "-", "-"] for row in rows
    )
    assert all(not row.startswith(" ") for row in rows)


@pytest.mark.parametrize("width", [50, 80])
def test_rules_can_be_read_at_any_width(width: int, command: list[str], tmp_path: Path) -> None:
    """A rule is wrapped, but its id is not."""
    lines = on_terminal([*command, "contract", "list", "--tier", "smoke"], width, tmp_path)

    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert any("chat.message.content_nullable" in line for line in lines)
