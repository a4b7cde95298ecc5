"""Measure the structure of the code: sizes, names, import cycles, and the files that a call uses.

Prints one line per measure with its limit. The exit status is 1 if a limit is exceeded. Imports for
type checking and inside functions count as imports.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import FrameType

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "src" / "llmengine"
PACKAGES = {"llmengine": LIBRARY, "pytest_llmengine": ROOT / "pytest_llmengine"}
# Nouns of the field that end in -ing; other names of files and folders that do are gerunds.
NOUNS = frozenset(
    {
        "framing",
        "pricing",
        "reasoning",
        "recording",
        "reporting",
        "sampling",
        "streaming",
        "tracing",
    }
)


class Measure(NamedTuple):
    """A measured number.

    ``limit`` is the largest value that is allowed, None if there is no limit. ``found`` are the
    places or names that were counted.
    """

    name: str
    value: float
    limit: float | None = None
    found: Sequence[str] = ()

    @property
    def is_exceeded(self) -> bool:
        """Whether the value is over its limit."""
        return self.limit is not None and self.value > self.limit

    def lines(self) -> Iterator[str]:
        """The measure in one line, followed by what was found if the limit is exceeded."""
        limit = "" if self.limit is None else f"  (at most {self.limit:g})"
        over = "  over" if self.is_exceeded else ""
        yield f"{self.name:34} {self.value:10,.6g}{limit}{over}"
        if self.is_exceeded or self.limit is None:
            yield from (f"    {one}" for one in self.found)


def measures(packages: Mapping[str, Path]) -> Iterator[Measure]:
    """The measures of the source text of these packages, given as names and folders."""
    files = sorted(path for folder in packages.values() for path in folder.rglob("*.py"))
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    total = sum(lengths.values())
    largest = max(files, key=lengths.__getitem__)
    yield Measure("files", len(files))
    yield Measure("lines", total)
    yield Measure("median lines per file", statistics.median(lengths.values()))
    yield Measure("lines of the largest file", lengths[largest], found=[_relative(largest)])
    yield Measure("files per 1,000 lines", 1000 * len(files) / total, 7)
    yield _none_allowed("duplicate class names", duplicate_classes(files))
    yield _none_allowed("import cycles", import_cycles(packages))
    yield _none_allowed("gerund file names", gerunds(packages))


def measures_of_the_library() -> Iterator[Measure]:
    """The measures that only ``llmengine`` has."""
    names = public_names_of_engine()
    yield Measure("public names of Engine", len(names), 24, found=[", ".join(names)])
    first, second = files_of_two_calls()
    yield Measure("files that the first call runs", len(first))
    # With the HTTP client, which takes three files, and the limiter, which gives the permits.
    yield Measure("files that a generate runs", len(second), 23, found=[", ".join(second)])
    share = any_per_thousand_lines(LIBRARY)
    yield Measure("Any per 1,000 lines of llmengine", share, 15)


def _none_allowed(name: str, found: Sequence[str]) -> Measure:
    return Measure(name, len(found), 0, found=found)


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def duplicate_classes(files: Iterable[Path]) -> list[str]:
    """The class names that are defined more than once, with their files."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(_relative(path))
    return [f"{name} in {', '.join(of)}" for name, of in sorted(homes.items()) if len(of) > 1]


def import_cycles(packages: Iterable[str]) -> list[str]:
    """Cycles of imports; as many as there are imports to remove until none is left."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {
        module: sorted(graph.find_modules_directly_imported_by(module))
        for module in sorted(graph.modules)
    }
    cycles = []
    while True:
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as error:
            cycle = error.args[1]
            cycles.append(" <- ".join(cycle))
            # Remove one import of this cycle, to find the next cycle.
            imports[cycle[1]].remove(cycle[0])
        else:
            return cycles


def gerunds(packages: Mapping[str, Path]) -> list[str]:
    """The files and folders whose names end in -ing without being a noun of the field."""
    paths = {
        path
        for folder in packages.values()
        for file in folder.rglob("*.py")
        for path in (file, *file.parents)
        if path.is_relative_to(folder)
    }
    return sorted(
        _relative(path)
        for path in paths
        if path.stem.endswith("ing") and path.stem.rpartition("_")[2] not in NOUNS
    )


def public_names_of_engine() -> list[str]:
    """The attributes of an engine that do not begin with an underscore."""
    from llmengine import EngineConfig  # noqa: PLC0415 - measured, and not needed before

    with EngineConfig(backend="mock", model="mock").engine as engine:
        return [name for name in dir(engine) if not name.startswith("_")]


def files_of_two_calls() -> tuple[list[str], list[str]]:
    """The files of the library in which code runs during a first and a second `generate`.

    The first call also builds the engine, starts the background loop and opens a connection, so
    this must be the first use of the library in this process. The server is another process, since
    it uses the library too.
    """
    from llmengine import EngineConfig  # noqa: PLC0415 - measured, and not needed before

    run: set[str] = set()

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(LIBRARY):
            run.add(str(path.relative_to(LIBRARY)))

    with mock_server() as endpoint:
        config = EngineConfig(backend="openai_compatible", model="mock", endpoint=endpoint)
        # Threads have the profile if they start after it was set, so it is set before both calls.
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            with config.engine as engine:
                engine.generate(["Hello"])
                first, run = run, set()
                engine.generate(["Hello"])
                second, run = run, set()  # closing the engine is no part of it
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return sorted(first), sorted(second)


@contextmanager
def mock_server() -> Iterator[str]:
    """The address of a mock server in another process."""
    command = [sys.executable, "-m", "pytest_llmengine.cli", "mock", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def any_per_thousand_lines(folder: Path) -> float:
    """How often the word Any occurs, in comments and imports too."""
    texts = [path.read_text("utf-8") for path in folder.rglob("*.py")]
    words = sum(len(re.findall(r"\bAny\b", text)) for text in texts)
    return 1000 * words / sum(len(text.splitlines()) for text in texts)


def report(found: Iterable[Measure]) -> int:
    """Print the measures; the exit status is 1 if a limit is exceeded."""
    status = 0
    for measure in found:
        print(*measure.lines(), sep="\n")  # noqa: T201 - the output of this program
        if measure.is_exceeded:
            status = 1
    return status


def main() -> int:
    """Print all measures and return the exit status."""
    return report(chain(measures(PACKAGES), measures_of_the_library()))


if __name__ == "__main__":
    sys.exit(main())
