"""Measure the structure of the code: sizes, names, import cycles, and what one call touches.

Prints one line per measure with its limit. Exits with 1 if a limit of those that CI holds is
broken: duplicate class names, import cycles (imports for typing and inside functions count), and
file names that end in -ing without being a field's own noun.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
import threading
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).parents[1]
PACKAGES = {"llmengine": ROOT / "src" / "llmengine", "pytest_llmengine": ROOT / "pytest_llmengine"}
# Nouns of the field that end in -ing; other file names that do are gerunds.
NOUNS = {
    "framing",
    "pricing",
    "reasoning",
    "recording",
    "reporting",
    "sampling",
    "streaming",
    "tracing",
}


class Measure(NamedTuple):
    """One measured number; ``limit`` is its goal, ``held`` whether CI enforces the limit."""

    name: str
    value: float
    limit: float | None = None
    held: bool = False
    detail: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the number is over its limit."""
        return self.limit is not None and self.value > self.limit


def measures() -> Iterator[Measure]:
    """Every measure of the two packages, in the order in which they are printed."""
    files = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    longest = max(files, key=lambda path: lengths[path])
    total = sum(lengths.values())
    yield Measure("files", len(files))
    yield Measure("lines", total)
    yield Measure("median lines per file", statistics.median(lengths.values()))
    yield Measure("lines of the largest file", lengths[longest], detail=_relative(longest))
    yield Measure("files per 1,000 lines", 1000 * len(files) / total, 7)
    yield _listed("duplicate class names", _duplicate_classes(files))
    yield _listed("import cycles", _import_cycles())
    yield _listed("gerund file names", [_relative(path) for path in files if _is_gerund(path)])
    names = _public_names_of_engine()
    yield Measure("public names of Engine", len(names), 24, detail=", ".join(names))
    touched = _files_touched_by_generate()
    yield Measure("files touched by one generate", len(touched), 20, detail=", ".join(touched))
    yield Measure("Any per 1,000 lines of llmengine", _any_per_thousand(files, lengths), 15)


def _listed(name: str, found: list[str]) -> Measure:
    return Measure(name, len(found), 0, held=True, detail="; ".join(found))


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _duplicate_classes(files: list[Path]) -> list[str]:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(_relative(path))
    return [f"{name} in {', '.join(of)}" for name, of in sorted(homes.items()) if len(of) > 1]


def _import_cycles() -> list[str]:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    cycles = []
    while True:
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as error:
            cycle = error.args[1]
            cycles.append(" <- ".join(cycle))
            # Remove one import of this cycle, to find the next cycle.
            imports[cycle[1]] = imports[cycle[1]] - {cycle[0]}
        else:
            return cycles


def _is_gerund(path: Path) -> bool:
    return path.stem.endswith("ing") and path.stem.rpartition("_")[2] not in NOUNS


def _public_names_of_engine() -> list[str]:
    from llmengine import EngineConfig  # noqa: PLC0415 - measured, and not needed before

    with EngineConfig(backend="mock", model="mock").engine as engine:
        return [name for name in dir(engine) if not name.startswith("_")]


def _files_touched_by_generate() -> list[str]:
    from llmengine import EngineConfig  # noqa: PLC0415 - measured, and not needed before
    from llmengine.mock import MockServer  # noqa: PLC0415 - as above

    touched: set[str] = set()
    library = PACKAGES["llmengine"]

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(library):
            touched.add(str(path.relative_to(library)))

    with MockServer() as server:
        config = EngineConfig(backend="openai_compatible", model="mock", endpoint=server.base_url)
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            config.engine.generate(["Hello"])
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return sorted(path for path in touched if not path.startswith("mock"))


def _any_per_thousand(files: list[Path], lengths: dict[Path, int]) -> float:
    ours = [path for path in files if path.is_relative_to(PACKAGES["llmengine"])]
    count = sum(len(re.findall(r"\bAny\b", path.read_text("utf-8"))) for path in ours)
    return 1000 * count / sum(lengths[path] for path in ours)


def main() -> int:
    """Print every measure; returns the exit status."""
    broken = False
    for measure in measures():
        limit = "" if measure.limit is None else f"  (at most {measure.limit:g})"
        mark = "  <-- over" if measure.is_broken else ""
        print(f"{measure.name:34} {measure.value:10,.6g}{limit}{mark}")  # noqa: T201 - its output
        if measure.detail and (measure.is_broken or "largest" in measure.name):
            print(f"    {measure.detail}")  # noqa: T201 - its output
        broken = broken or (measure.held and measure.is_broken)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
