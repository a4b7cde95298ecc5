"""``tools/servers.py`` and its table of the servers of other projects."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import servers
from llmengine.embedded.models import chat_template

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "servers"
TABLE = servers.read_table()
TEXTS = dict.fromkeys(
    ("port", "weights", "model", "key", "upstream", "here", "template", "environment", "folder"),
    "8000",
)
MOCK = [sys.executable, "-m", "pytest_llmengine.cli", "mock", "serve", "--port", "{port}"]


def run(table: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tool for the only server of a table."""
    tool = [sys.executable, str(ROOT / "tools" / "servers.py"), "mine"]
    return subprocess.run(
        [*tool, "--table", str(table), "--environment", str(table.parent), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write(folder: Path, command: list[str], **fields: str) -> Path:
    """A table with one server."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    lines += ['sentence = "a mock"', 'version = "1"', f"command = {json.dumps(command)}"]
    table = folder / "table.toml"
    table.write_text("\n".join(["[mine]", *lines]), "utf-8")
    return table


@pytest.mark.parametrize("name", TABLE)
def test_entry_is_complete(name: str) -> None:
    """Its texts have known placeholders only, and what it installs has the version of its title."""
    server = TABLE[name]
    texts = [*server.command, *server.files.values(), *server.env.values(), server.model]
    for text in [*texts, *server.headers.values()]:
        servers.fill(text, TEXTS)
    pins = " ".join([*server.packages, *server.bare, *(f"=={v}" for v in server.npm.values())])
    assert re.search(rf"==\S*{re.escape(server.version.removeprefix('b'))}\b", pins)
    assert server.ready.startswith("/")
    assert "{port}" in " ".join(texts)
    assert not server.sentence.endswith(".")
    placeholders = {"weights": "weights" if server.session != "transformers" else "model"}
    if server.weights:
        assert f"{{{placeholders['weights']}}}" in " ".join(server.command)
    if server.upstream:
        assert "{upstream}" in " ".join([*texts, *server.headers.values()])
    if server.key:
        assert "{key}" in " ".join(texts) or "portkey" in server.session  # it passes keys on


def test_titles_are_unique_names_of_folders() -> None:
    """Recordings of two servers do not share a folder."""
    titles = [server.title for server in TABLE.values()]
    assert len(set(titles)) == len(titles)
    assert all(re.fullmatch(r"[a-z0-9.-]+", title) for title in titles)


def test_files_name_no_package_index_and_no_path_of_one_machine() -> None:
    """Where packages come from is the user's own configuration."""
    for path in (path for path in FOLDER.rglob("*") if path.is_file()):
        text = path.read_text("utf-8", errors="replace")
        assert not re.search(r"https?://|(^|[\s\"'=])/(root|home|work|tmp|opt|usr)/", text), path


def test_nox_lists_every_server_with_one_sentence() -> None:
    """``nox --list`` shows what there is."""
    pytest.importorskip("nox", reason="it is in the group dev")
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "-f", str(ROOT / "noxfile.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    for name, server in TABLE.items():
        assert f"- servers-{name} -> Hold to the contract: {server.sentence}." in listed


def test_server_is_started_checked_and_recorded_under_its_title(tmp_path: Path) -> None:
    """The options are those of ``llmengine verify``; a replay starts nothing."""
    table = write(tmp_path, MOCK, ready="/v1/models", model="mock")
    options = ("--check", "chat.basic.object_const", "--cassettes", str(tmp_path / "recordings"))
    recorded = run(table, "--mode", "record", *options)
    assert recorded.returncode == 0, recorded.stderr
    assert (tmp_path / "recordings" / "mine-1" / "chat.basic.object_const.yaml").is_file()
    replayed = run(
        write(tmp_path, ["no-such-program"], ready="/", model="mock"), "--mode", "replay", *options
    )
    assert replayed.returncode == 0, replayed.stderr


def test_server_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The error has the status, the path of the log and its last lines."""
    program = "print('no model here'); raise SystemExit(3)"
    failed = run(write(tmp_path, [sys.executable, "-c", program], ready="/"))
    assert failed.returncode == 1
    assert "the server ended with status 3" in failed.stderr
    assert str(tmp_path / "server.log") in failed.stderr
    assert failed.stderr.rstrip().endswith("no model here")


def test_npm_installs_the_versions_of_the_table_again_if_they_change(tmp_path: Path) -> None:
    """What was installed for other versions is removed, because npm would keep it."""
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text('#!/bin/sh\nmkdir -p "$3/node_modules"\nmktemp -d "$3/node_modules/XXXX"\n')
    npm.chmod(0o755)
    installed = []
    for version in ("1", "1", "2"):
        server = dataclasses.replace(
            TABLE["portkey"], npm={"gateway": "1"}, overrides={"http": version}
        )
        servers.install_npm(server, tmp_path)
        installed.append(len(list((tmp_path / "node_modules").iterdir())))
        manifest = json.loads((tmp_path / "package.json").read_text("utf-8"))
        assert manifest["dependencies"] == {"gateway": "1"}
        assert manifest["overrides"] == {"http": version}
    assert installed == [1, 2, 1]


def test_bad_tables_are_one_line(tmp_path: Path) -> None:
    """An unknown field or placeholder is named."""
    unknown = run(write(tmp_path, MOCK, ready="/", colour="red"))
    assert unknown.stderr.startswith("servers: mine: unknown fields ['colour']")
    placeholder = run(write(tmp_path, ["{nothing}"], ready="/"))
    assert "bad placeholder 'nothing'" in placeholder.stderr


def test_template_of_the_embedded_engine_exists() -> None:
    """The servers of llama.cpp and vLLM use it."""
    template = chat_template("smollm2-135m")
    assert template is not None
    assert template.is_file()
