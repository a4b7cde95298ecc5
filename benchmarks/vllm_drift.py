"""Measure which real changes of a vLLM server `llmengine drift check` finds, in two tiers.

    python benchmarks/vllm_drift.py --model MODEL --dtype float32 --runs 2 \
        --engine-args '{"max_model_len": 2048, "enforce_eager": true, "max_num_seqs": 16}'

A server is started for each change of the model or of the engine arguments, and is asked what a
check asks, so many times. The rows "none" are healthy servers, with another load in each round. In
the end this process loads the same model, and judges the sampled tokens of all servers
(tier weights). Every measurement is a file in --folder, so the program goes on where it was
stopped; with ``--runs 0`` it only judges the files. With ``--write`` the first file of each change
is copied to tests/drift/recorded_vllm, where the tests judge it without vLLM.

Needs vLLM in this environment. On a CPU set the variables of docs/vllm_local.md. ``--older FOLDER``
adds a server of another release: a folder into which its wheel was unpacked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_serving import add_server_options, served

from pytest_llmengine.drift import (
    Baseline,
    DriftTier,
    Meter,
    judge,
    load,
    save,
)
from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.live import RECORD_EFFORT, Effort, facts_of
from pytest_llmengine.drift.live import record as record_baseline
from pytest_llmengine.drift.reference import VLLMReference
from pytest_llmengine.drift.reference_check import record_reference
from pytest_llmengine.drift.search import search
from pytest_llmengine.drift.weights import WeightsMeter, weights_probe
from pytest_llmengine.targets import Mode, Settings, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmengine.drift import DriftReport, Probe
    from pytest_llmengine.targets import Session

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "drift" / "recorded_vllm"
MODEL = "model"
# Longer answers at temperature 0 are left out: on two cores they take most of the time, and the
# sampled answers show what they show.
ROUNDS = {RoundKind.FIRST: 10, RoundKind.SCORED: 10}
RECORDED = Effort(RECORD_EFFORT.sessions, {RoundKind.FIRST: 5})
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
SYSTEM = "<|im_start|>system\nYou are a helpful assistant of Acme.<|im_end|>\n" + CHATML


@dataclass(frozen=True, kw_only=True)
class VLLMChange:
    """What differs from the baseline's server.

    ``arguments`` are those of ``vllm.LLM`` and its server. ``int8`` rounds the weights to 8 bits,
    and ``older`` starts another release. ``template``, ``sampling`` and ``loads`` are values of the
    requests, as a gateway would change them.
    """

    arguments: tuple[tuple[str, object], ...] = ()
    int8: bool = False
    older: bool = False
    template: str = ""
    sampling: tuple[tuple[str, float], ...] = ()
    loads: tuple[int, ...] = ()


CHANGES: Mapping[str, VLLMChange] = {
    "none": VLLMChange(),
    "none, 1 request at a time": VLLMChange(loads=(1,)),
    "none, 16 requests in flight": VLLMChange(loads=(16,)),
    "temperature 0.05": VLLMChange(sampling=(("temperature", 0.05),)),
    "repetition penalty 1.02": VLLMChange(sampling=(("repetition_penalty", 1.02),)),
    "bfloat16": VLLMChange(arguments=(("dtype", "bfloat16"),)),
    "weights of 8 bits": VLLMChange(int8=True),
    "KV cache fp8": VLLMChange(arguments=(("dtype", "bfloat16"), ("kv_cache_dtype", "fp8"))),
    "another template": VLLMChange(template=CHATML),
    "hidden system prompt": VLLMChange(template=SYSTEM),
    "older vLLM": VLLMChange(older=True),
}


def main() -> None:
    """Measure what is missing, judge all of it, and print the table."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    for what, changes in _by_server(options.change).items():
        _measure(what, changes, options)
    reference = VLLMReference(options.model, {"dtype": options.dtype, **options.engine_args})
    try:
        baselines = _judge_all(reference, options)
    finally:
        reference.close()
    print("| change | tier | verdict | smallest adjusted p | found by | requests | tokens |")
    print("|---|---|---|---|---|---|---|")
    for change in CHANGES:
        for tier, baseline in baselines.items():
            paths = sorted(options.folder.glob(f"{_file_name(change)}.{tier}.??.jsonl.gz"))
            for path in paths:
                print(_row(change, judged(baseline, load(path))))
            if options.write and paths:
                shutil.copy(paths[0], KEPT / f"{_file_name(change)}.{tier}.jsonl.gz")
    if options.write:
        for tier in baselines:
            name = f"baseline.{tier}.jsonl.gz"
            shutil.copy(options.folder / name, KEPT / name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_server_options(parser)
    parser.add_argument("--runs", type=int, default=1, help="checks per change and tier")
    parser.add_argument("--change", action="append", choices=CHANGES, help="one of the changes")
    parser.add_argument("--loads", type=int, nargs="+", help="requests in flight after a change")
    parser.add_argument("--tier", action="append", type=DriftTier, help="one of the tiers")
    parser.add_argument("--older", type=Path, help="a folder with another release of vLLM")
    parser.add_argument("--folder", type=Path, default=ROOT / ".nox" / "drift" / "vllm")
    parser.add_argument("--write", action="store_true", help="keep the files for the tests")
    options = parser.parse_args()
    options.change = options.change or list(CHANGES)
    options.tier = options.tier or [DriftTier.LOGPROBS, DriftTier.WEIGHTS]
    return options


def _file_name(change: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in change.lower()).split())


def _by_server(changes: Sequence[str]) -> dict[VLLMChange, list[str]]:
    """The changes that one server can be asked for, by what differs in the server."""
    groups: dict[VLLMChange, list[str]] = {}
    for change in changes:
        server = replace(CHANGES[change], template="", sampling=(), loads=())
        groups.setdefault(server, []).append(change)
    return groups


def _measure(server: VLLMChange, changes: Sequence[str], options: argparse.Namespace) -> None:
    """The checks of these changes that have no file yet, with one server for all."""
    missing = [
        (change, tier, run, path)
        for run in range(options.runs)
        for change in changes
        for tier in options.tier
        if not (path := options.folder / f"{_file_name(change)}.{tier}.{run:02}.jsonl.gz").exists()
    ]
    if not missing or (server.older and options.older is None):
        return
    with _server(server, options) as url:
        baseline = _logprob_baseline(changes, url, options.folder)
        for change, tier, run, path in missing:
            probe = baseline.probe if tier is DriftTier.LOGPROBS else weights_probe()
            asked = _asked(probe, CHANGES[change], options.loads if change != "none" else None)
            with _opened(url, CHANGES[change].template) as session:
                meter = Meter(session.engine, asked, random.Random(f"{change} {run}"))
                measured = meter.session(ROUNDS)
                facts = facts_of(session)
            save(replace(baseline, facts=facts, probe=probe, sessions=(measured,)), path)
            print(path.name, flush=True)


def _logprob_baseline(changes: Sequence[str], url: str, folder: Path) -> Baseline:
    path = folder / "baseline.logprobs.jsonl.gz"
    if not path.exists():
        if "none" not in changes:
            raise SystemExit("measure the change 'none' first: its server gives the baseline")
        with _opened(url) as session:
            found = search(session.engine, DriftTier.LOGPROBS, RECORDED.chance)
            cost = found.requests
            save(record_baseline(session, found.probe, effort=RECORDED, search_requests=cost), path)
    return load(path)


def _asked(probe: Probe, change: VLLMChange, loads: Sequence[int] | None) -> Probe:
    """The probe with the values that a changed server would use."""
    sampling = dict(change.sampling)
    hot = sampling.pop("temperature", None)
    prompts = (p if hot is None else replace(p, temperature=hot) for p in probe.prompts)
    return replace(
        probe,
        sampling={**probe.sampling, **sampling},
        prompts=tuple(prompts),
        loads=change.loads or tuple(loads or probe.loads),
    )


@contextmanager
def _server(change: VLLMChange, options: argparse.Namespace) -> Iterator[str]:
    """The address of a server with the change."""
    given = {"served_model_name": MODEL, "generation_config": "vllm"}
    arguments = {
        "dtype": options.dtype,
        **options.engine_args,
        **dict(change.arguments),
        **given,
        "trust_request_chat_template": True,
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = _rounded(options.model, folder / "int8") if change.int8 else options.model
        stack.enter_context(_path(options.older if change.older else None))
        dtype = arguments.pop("dtype")
        url = None if change != VLLMChange() else options.url
        started = argparse.Namespace(url=url, model=model, dtype=dtype, engine_args=arguments)
        yield stack.enter_context(served(started))


@contextmanager
def _opened(url: str, template: str = "") -> Iterator[Session]:
    """The server as an engine; with a template, every request has it."""
    body = {"chat_template": template} if template else {}
    engine = {"name": "vllm", "backend": "vllm_api", "model": MODEL, "endpoint": url}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump([{**engine, "timeout": 600, "extra_body": body}], file)
        file.flush()
        settings = Settings(engines=("vllm",), config=Path(file.name), mode=Mode.LIVE)
        with open_session("vllm", settings) as session:
            yield session


@contextmanager
def _path(folder: Path | None) -> Iterator[None]:
    """The environment of a server that imports from this folder first."""
    if folder is None:
        yield
        return
    os.environ["PYTHONPATH"] = str(folder)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]


def _rounded(model: str, folder: Path) -> str:
    """A copy of the model with weights of 8 bits per output channel, written as before."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        for name, values in weights.items():
            if values.dim() == 2 and "embed" not in name:
                step = values.float().abs().amax(1, keepdim=True) / 127
                weights[name] = ((values / step).round() * step).to(values.dtype)
        save_file(weights, path, metadata={"format": "pt"})
    return str(folder)


def _judge_all(reference: VLLMReference, options: argparse.Namespace) -> dict[DriftTier, Baseline]:
    """Judge the sampled tokens in the files; returns the baselines."""
    path = options.folder / "baseline.weights.jsonl.gz"
    if not path.exists():
        settings = Settings(engines=("vllm_local",), model=options.model, mode=Mode.LIVE)
        with open_session("vllm_local", settings) as session:
            save(record_reference(session, reference), path)
    meter = WeightsMeter(reference, weights_probe())
    for other in sorted(options.folder.glob("*.weights.*.gz")):
        candidate = load(other)
        if other != path and not all(a.score for s in candidate.sessions for a in s.answers):
            save(replace(candidate, sessions=tuple(map(meter.judged, candidate.sessions))), other)
    logprobs = options.folder / "baseline.logprobs.jsonl.gz"
    return {DriftTier.LOGPROBS: load(logprobs), DriftTier.WEIGHTS: load(path)}


def judged(baseline: Baseline, candidate: Baseline) -> DriftReport:
    """The report of a check that measured this candidate."""
    return judge(baseline, candidate.sessions, power=False)


def _row(change: str, report: DriftReport) -> str:
    adjusted = {r.evidence: r.adjusted for r in report.rows if r.adjusted is not None}
    found = [name for name, p in adjusted.items() if p <= report.alpha]
    found += [finding.name for finding in report.findings]
    cells: Sequence[object] = (
        change,
        report.baseline.probe.tier,
        report.verdict,
        f"{min(adjusted.values(), default=1.0):.2g}",
        ", ".join(dict.fromkeys(found)) or "none",
        report.requests,
        report.tokens[1],
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
