"""Measure which real changes of a llama.cpp server a single look finds, in p-values.

    python benchmarks/drift_changes.py --runs 5

The model is the embedded one. A baseline of 20 rounds over 10 prompts is compared with 10 rounds of
each change, which are 100 one-token requests. Every side is a new process. The prompts of a round
are in random order and 1 or 4 are in flight, so that rounds have different loads. Two p-values
are shown: of the log-probabilities of the first token, and of its text. Rows without a change
should have p-values above 0.01 in 99 of 100 runs.

The prompts are those of 300 candidates, pairs of words, whose two likeliest tokens are closest to
each other ("border inputs", arXiv 2602.11083): a small change of the log-probabilities then
changes the text.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from pytest_llmengine.statistics import (
    logprob_distance,
    permutation_test,
    stratum_of,
    value_distance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MODEL = "smollm2-135m"
ROUNDS = (20, 10)  # of the baseline, and of a candidate
LOADS = (1, 4)
TOP = 20
SECONDS = 60.0
PROMPTS = 10
CANDIDATES = 300
WORDS = (
    "amber bridge candle dust echo forest glass harbour island jacket kettle lantern market needle "
    "orchard paper quiet river shadow table umbrella valley window yellow"
)


class Change(NamedTuple):
    """What differs from the baseline: parameters of llama.cpp, fields of requests, or messages."""

    server: Mapping[str, Any] = {}
    request: Mapping[str, Any] = {}
    system: str | None = None


NONE = Change()
Q8_0, Q4_0 = 8, 2  # of ggml
CHATML = "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}"
CHANGES = {
    "none": NONE,
    "another seed": Change(request={"seed": 7}),
    "shorter context": Change({"n_ctx": 2048}),
    "KV cache q8_0": Change({"cache_type_k": Q8_0, "cache_type_v": Q8_0}),
    "KV cache q4_0": Change({"cache_type_k": Q4_0, "cache_type_v": Q4_0}),
    "flash attention off": Change({"flash_attn_type": 0}),
    "temperature 0.05": Change(request={"temperature": 0.05}),
    "temperature 1": Change(request={"temperature": 1.0}),
    "repetition penalty 1.02": Change(request={"repeat_penalty": 1.02}),
    "hidden system prompt": Change(system="You are a helpful assistant of Acme."),
    "another template": Change({"chat_template": CHATML + "<|im_start|>assistant\n"}),
}


@dataclass
class Rounds:
    """The answers of one side: per round, each prompt's likeliest tokens and its text."""

    logprobs: list[list[dict[str, float]]] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)


def border_prompts() -> list[str]:
    """The candidates whose two likeliest first tokens are closest to each other."""
    candidates = [" ".join(pair) for pair in permutations(WORDS.split(), 2)]
    candidates = random.Random(0).sample(candidates, CANDIDATES)
    with server(NONE) as url, httpx.Client(timeout=SECONDS, trust_env=False) as client:
        gaps = {prompt: _gap(ask(client, url, NONE, prompt)[0]) for prompt in candidates}
    return sorted(gaps, key=gaps.__getitem__)[:PROMPTS]


def _gap(logprobs: Mapping[str, float]) -> float:
    first, second = sorted(logprobs.values(), reverse=True)[:2]
    return first - second


def ask(
    client: httpx.Client, url: str, change: Change, prompt: str
) -> tuple[dict[str, float], str]:
    """The likeliest first tokens of an answer, and its text of one token."""
    reply = client.post(f"{url}/v1/chat/completions", json=_body(change, prompt))
    choice = reply.raise_for_status().json()["choices"][0]
    top = choice["logprobs"]["content"][0]["top_logprobs"]
    return {row["token"]: row["logprob"] for row in top}, choice["message"]["content"]


def measure(change: Change, prompts: Sequence[str], rounds: int, seed: str) -> Rounds:
    """Start a server with the change, and ask all prompts so many times."""
    chance = random.Random(seed)
    measured = Rounds()
    with server(change) as url, httpx.Client(timeout=SECONDS, trust_env=False) as client:
        one = partial(ask, client, url, change)
        for _ in range(rounds):
            order = chance.sample(prompts, len(prompts))
            with ThreadPoolExecutor(chance.choice(LOADS)) as pool:
                answers = dict(zip(order, pool.map(one, order), strict=True))
            measured.logprobs.append([answers[prompt][0] for prompt in prompts])
            measured.texts.append([answers[prompt][1] for prompt in prompts])
    return measured


def _body(change: Change, prompt: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    if change.system is not None:
        messages.insert(0, {"role": "system", "content": change.system})
    pinned = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0}
    asked = {"messages": messages, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
    return asked | pinned | dict(change.request)


@contextmanager
def server(change: Change) -> Iterator[str]:
    """A server in its own process, which ends with its standard input."""
    command = [sys.executable, __file__, "--serve", json.dumps(dict(change.server))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield next(line for line in child.stdout if line.startswith("http")).strip()
        finally:
            child.stdin.close()


def serve(changed: Mapping[str, Any]) -> None:
    """Run llama.cpp's server in this process until standard input ends."""
    import os

    import xllamacpp

    from llmengine.embedded.models import resolve

    values = {"n_ctx": 8192, "n_parallel": max(LOADS), **changed}
    params = xllamacpp.CommonParams()
    params.model.path = str(resolve(MODEL))
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.use_jinja, params.ui, params.fit_params = True, False, False
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    kinds = {
        "cache_type_k": xllamacpp.ggml_type,
        "cache_type_v": xllamacpp.ggml_type,
        "flash_attn_type": xllamacpp.llama_flash_attn_type,
    }
    for name, value in values.items():
        setattr(params, name, kinds[name](value) if name in kinds else value)
    running = xllamacpp.Server(params)
    print(running.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # the server has no method to stop it


def p_values(baseline: Rounds, candidate: Rounds) -> tuple[float, float]:
    """The p-values of the log-probabilities and of the texts; the units are rounds."""
    logprobs = stratum_of(baseline.logprobs, candidate.logprobs, logprob_distance)
    texts = stratum_of(baseline.texts, candidate.texts, value_distance)
    return permutation_test([logprobs]).p_value, permutation_test([texts]).p_value


def main() -> None:
    """Print one row per change."""
    options = _options()
    if options.serve is not None:
        serve(json.loads(options.serve))
        return
    chosen: Sequence[str] = options.change or list(CHANGES)
    began = perf_counter()
    prompts = border_prompts()
    baseline = measure(NONE, prompts, ROUNDS[0], "baseline")
    requests = CANDIDATES + ROUNDS[0] * PROMPTS
    print(f"baseline of {requests} requests in {perf_counter() - began:.0f} s")
    print(f"{'change':26} p of log-probabilities, p of texts; {options.runs} runs")
    for name in chosen:
        for run in range(options.runs):
            candidate = measure(CHANGES[name], prompts, ROUNDS[1], f"{name} {run}")
            logprobs, texts = p_values(baseline, candidate)
            print(f"{name:26} {logprobs:.4f} {texts:.4f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1, help="candidates per change")
    parser.add_argument("--change", action="append", choices=CHANGES, help="one of the changes")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
