"""Run engines against servers with faults for minutes, and check that nothing grows.

``python tools/soak.py --minutes 30 --write`` sends prompts through every HTTP backend in four ways
at once, and writes the result into docs/faults.md. The servers run in another process, so that the
samples show only the library: resident memory, open files, threads, tasks of the background loop,
latencies. The exit status is not zero if something grows beyond its limit, or if an answer is wrong
or lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults.fault import ANSWER, BACKENDS, STYLES  # noqa: E402 - found by the line above
from faults.server import FaultServer, text_for, true_answer  # noqa: E402
from faults.table import FAULTS  # noqa: E402

import llmengine  # noqa: E402
from llmengine import EngineConfig, LLMEngineError, Timeouts  # noqa: E402
from llmengine.transport.loop import background, shutdown  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from faults.fault import Backend, Fault
    from faults.server import Script
    from faults.wires import Asked

    from llmengine import Engine

PAGE, PLOT = ROOT / "docs" / "faults.md", ROOT / "docs" / "images" / "soak.svg"
BEGIN, END = "<!-- soak: begin -->\n", "<!-- soak: end -->\n"
SHARE = 0.2
CONCURRENCY = 16
EVERY = 1.0  # seconds between two samples
PATIENCE = 5.0
# How much more may exist at the end than after the first fifth.
BOUNDS = {"memory": 32.0, "files": 64, "threads": 8, "tasks": 200}
UNITS = {"memory": "MB", "files": "open files", "threads": "threads", "tasks": "tasks"}


# ---- the servers, in another process


async def serve() -> None:
    """Start one server per backend and print the ports; end when standard input is closed."""
    servers = [FaultServer(_scripts(backend), hits=lambda _: True) for backend in BACKENDS.values()]
    for server in servers:
        await server.__aenter__()
    print(json.dumps([server.port for server in servers]), flush=True)  # noqa: T201 - its answer
    await asyncio.to_thread(sys.stdin.read)


def _scripts(backend: Backend) -> Callable[[Asked], Script]:
    """The answers of a server of that backend: mostly right, with the same faults in each run."""
    chance = random.Random(backend.name)  # noqa: S311 - no secret
    faults = [fault for fault in FAULTS.values() if _is_told(fault, backend)]

    def script(asked: Asked) -> Script:
        if chance.random() >= SHARE:
            return true_answer(asked)
        return chance.choice(faults).script(asked)

    return script


def _is_told(fault: Fault, backend: Backend) -> bool:
    """Whether the fault gives the right answer or an error, for this and for the next prompt."""
    ends = [fault.outcome(backend, style, after=after) for style in STYLES for after in (0, 1)]
    is_plain = all(end == ANSWER or "Error" in end for end in ends)
    return is_plain and fault.reads and not fault.sampling and fault.says is str


# ---- the load


@dataclass
class Load:
    """Counts of prompts and of their outcomes."""

    until: float
    folder: Path
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    number: int = 0

    def prompts(self, count: int) -> list[str]:
        """The next prompts; every prompt is different."""
        self.number += count
        return [f"ask-soak-{n}" for n in range(self.number - count, self.number)]

    def end(self, style: str, prompt: str, text: str | None, error: object) -> None:
        """Count one prompt; an answer must belong to it, and an error must be one of ours."""
        if error is not None:
            self.ended[f"{style}: {type(error).__name__}"] += 1
            if not isinstance(error, LLMEngineError):
                self.wrong.append(f"{style} of {prompt}: {error!r} is not ours")
        else:
            self.ended[f"{style}: answer"] += 1
            if text != text_for(prompt):
                self.wrong.append(f"{style} of {prompt}: {text!r}")


async def _whole(engine: Engine, load: Load) -> None:
    prompts = load.prompts(20)
    results = await engine.aresults(prompts)
    _lost(load, len(prompts), len(results))
    for prompt, result in zip(prompts, results, strict=True):
        load.end("whole", prompt, result.output and result.output.outputs[0].text, result.error)


async def _stream(engine: Engine, load: Load) -> None:
    (prompt,) = load.prompts(1)
    text, error = "", None
    try:
        async for delta in engine.astream(prompt):
            text += delta.text if delta.index == 0 else ""
    except Exception as raised:  # noqa: BLE001 - what is not ours is counted
        error = raised
    load.end("stream", prompt, text, error)


async def _iter_results(engine: Engine, load: Load) -> None:
    prompts = load.prompts(20)
    results = [result async for result in engine.aiter_results(prompts)]
    _lost(load, len(prompts), len(results))
    for prompt, result in zip(prompts, results, strict=True):
        load.end("iter", prompt, result.output and result.output.outputs[0].text, result.error)


async def _batch(engine: Engine, load: Load) -> None:
    prompts = load.prompts(20)
    route, key = ("/v1/responses", "input"), ("/v1/chat/completions", "messages")
    url, name = route if engine.backend.url.endswith("/responses") else key
    lines = [
        {
            "custom_id": prompt,
            "method": "POST",
            "url": url,
            "body": {name: [{"role": "user", "content": prompt}]},
        }
        for prompt in prompts
    ]
    path = load.folder / f"{prompts[0]}.jsonl"
    report = await asyncio.to_thread(llmengine.run_batch, lines, path, engine)
    _lost(load, len(prompts), report.progress.answered + report.progress.failed)
    load.ended["batch: answer"] += report.progress.answered
    load.ended["batch: error"] += report.progress.failed
    path.unlink()


def _lost(load: Load, asked: int, ended: int) -> None:
    if asked != ended:
        load.wrong.append(f"{asked} prompts were asked, {ended} ended")


ASK: dict[str, Callable[[Engine, Load], Awaitable[None]]] = {
    "whole": _whole,
    "stream": _stream,
    "iter": _iter_results,
    "batch": _batch,
}


async def _ask(style: str, engine: Engine, load: Load) -> None:
    """Send prompts in one way until the time is over."""
    while time.monotonic() < load.until:
        started = time.monotonic()
        await ASK[style](engine, load)
        load.latencies[style].append((started, time.monotonic() - started))


# ---- samples


@dataclass(frozen=True)
class Sample:
    """One sample of the process; ``at`` is in seconds from the start, ``memory`` in MB."""

    at: float
    memory: float
    files: int
    threads: int
    tasks: int


def sample(started: float) -> Sample:
    """Take a sample of the process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return Sample(
        round(time.monotonic() - started, 1),
        round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only their number
        threading.active_count(),
        len(asyncio.all_tasks(background().loop)),
    )


def growth(samples: list[Sample]) -> dict[str, float]:
    """The difference between the medians of the last and the second fifth."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples, samples[-fifth:]

    def median(part: list[Sample], name: str) -> float:
        return statistics.median(getattr(one, name) for one in part)

    return {name: round(median(late, name) - median(early, name), 1) for name in BOUNDS}


def percentiles(latencies: list[float]) -> dict[str, float]:
    """The median, the 95% and the 99% quantile, in seconds."""
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else latencies * 99
    return {f"p{p}": round(cuts[p - 1], 3) for p in (50, 95, 99)}


# ---- the run


async def soak(minutes: float, ports: list[int], folder: Path) -> dict[str, Any]:
    """Run the load for that time; returns the samples and counts."""
    started = time.monotonic()
    load = Load(started + 60 * minutes, folder)
    samples: list[Sample] = []
    engines = [
        EngineConfig(
            **backend.config,
            model="m",
            endpoint=f"http://127.0.0.1:{port}{backend.path}",
            timeout=Timeouts(total=PATIENCE),
            retry_wait=0.01,
            max_concurrency=CONCURRENCY,
        ).engine
        for backend, port in zip(BACKENDS.values(), ports, strict=True)
    ]
    asking = [asyncio.create_task(_ask(s, engine, load)) for engine in engines for s in ASK]
    while any(not task.done() for task in asking):
        await asyncio.sleep(EVERY)
        samples.append(sample(started))
    for task in asking:
        task.result()
    return {
        "minutes": minutes,
        "prompts": load.number,
        "ended": dict(sorted(load.ended.items())),
        "wrong": load.wrong[:100],
        "growth": growth(samples),
        "latencies": {s: percentiles([t for _, t in seen]) for s, seen in load.latencies.items()},
        "latencies_by_minute": {s: _by_minute(seen, started) for s, seen in load.latencies.items()},
        "samples": [asdict(one) for one in samples],
    }


def _by_minute(seen: list[tuple[float, float]], started: float) -> list[dict[str, float]]:
    minutes: dict[int, list[float]] = defaultdict(list)
    for at, took in seen:
        minutes[int((at - started) // 60)].append(took)
    return [{"minute": minute, **percentiles(took)} for minute, took in sorted(minutes.items())]


def complaints(found: dict[str, Any]) -> list[str]:
    """The problems of a run."""
    said = [f"wrong: {one}" for one in found["wrong"][:10]]
    if not found["prompts"]:
        said.append("no prompt was sent; give more --minutes")
    if sum(found["ended"].values()) != found["prompts"]:
        said.append(f"{found['prompts']} prompts, {sum(found['ended'].values())} ended")
    grown = found["growth"]
    said += [f"{name} grew by {grown[name]}" for name in BOUNDS if grown[name] > BOUNDS[name]]
    return said


# ---- the report


def table(found: dict[str, Any]) -> str:
    """The result of a run, as Markdown."""
    samples = found["samples"]
    lines = ["| | first | last | most | growth | bound |", "|---|---|---|---|---|---|"]
    for name, unit in UNITS.items():
        values = [one[name] for one in samples]
        cells = [values[0], values[-1], max(values), found["growth"][name], BOUNDS[name]]
        lines.append(f"| {unit} | {' | '.join(f'{cell:g}' for cell in cells)} |")
    lines += ["", "| calls | p50 | p95 | p99 |", "|---|---|---|---|"]
    for style, cut in found["latencies"].items():
        lines.append(f"| {style} | {' | '.join(f'{s:.3f} s' for s in cut.values())} |")
    answered = sum(count for end, count in found["ended"].items() if end.endswith("answer"))
    lines += [
        "",
        f"{found['prompts']} prompts in {found['minutes']:g} minutes: {answered} answered,",
    ]
    lines += [f"{found['prompts'] - answered} failed, {len(found['wrong'])} wrong or lost."]
    return "\n".join(lines)


def write(found: dict[str, Any]) -> None:
    """Write the tables and the plot into the page."""
    PLOT.write_text(plot(found), "utf-8")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    shown = f"{table(found)}\n\n![memory, files, threads, tasks and latencies](images/soak.svg)"
    PAGE.write_text(f"{before}{BEGIN}\n{shown}\n\n{END}{after}", "utf-8")


_WIDTH, _HEIGHT, _LEFT, _GAP = 720, 90, 90, 34
_STYLE = "font:12px sans-serif;fill:#555"


def plot(found: dict[str, Any]) -> str:
    """The samples and the latencies over time, as SVG."""
    samples = found["samples"]
    charts = [(unit, [(one["at"], one[name]) for one in samples]) for name, unit in UNITS.items()]
    for style, minutes in found["latencies_by_minute"].items():
        charts.append((f"{style}, p95 s", [(60 * m["minute"], m["p95"]) for m in minutes]))
    parts = [_chart(label, points, row) for row, (label, points) in enumerate(charts)]
    height = len(charts) * (_HEIGHT + _GAP) + _GAP
    size = f'width="{_WIDTH + _LEFT + 20}" height="{height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def _chart(label: str, points: list[tuple[float, float]], row: int) -> str:
    """One line over time, from zero to its largest value."""
    top = _GAP + row * (_HEIGHT + _GAP)
    last, most = max(x for x, _ in points) or 1, max(y for _, y in points) or 1
    line = " ".join(
        f"{_LEFT + x / last * _WIDTH:.1f},{top + _HEIGHT - y / most * _HEIGHT:.1f}"
        for x, y in points
    )
    foot = top + _HEIGHT
    return (
        f'<text x="{_LEFT}" y="{top - 6}" style="{_STYLE}">{label}</text>'
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end" style="{_STYLE}">{most:g}</text>'
        f'<text x="{_LEFT - 6}" y="{foot}" text-anchor="end" style="{_STYLE}">0</text>'
        f'<text x="{_LEFT + _WIDTH}" y="{foot + 14}" text-anchor="end" style="{_STYLE}">'
        f"{last / 60:.1f} min</text>"
        f'<path d="M{_LEFT} {top}V{foot}H{_LEFT + _WIDTH}" stroke="#bbb" fill="none"/>'
        f'<polyline points="{line}" stroke="#2563eb" stroke-width="1.5" fill="none"/>'
    )


def main() -> None:
    """Run the servers, the load and the report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=5.0)
    options.add_argument("--json", type=Path, help="where to write all samples")
    options.add_argument("--write", action="store_true", help="write into docs/faults.md")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return
    logging.getLogger("llmengine").setLevel(logging.CRITICAL)
    command = [sys.executable, __file__, "--serve"]
    with (
        subprocess.Popen(  # noqa: S603 - this very program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as servers,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert servers.stdout is not None
        ports = json.loads(servers.stdout.readline())
        found = asyncio.run(soak(chosen.minutes, ports, Path(folder)))
        shutdown()
        assert servers.stdin is not None
        servers.stdin.close()
    print(table(found))  # noqa: T201 - its answer
    if chosen.json:
        chosen.json.write_text(json.dumps(found), "utf-8")
    if chosen.write:
        write(found)
    if said := complaints(found):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
