"""Compare vLLM's /v1/chat/completions/batch with concurrent calls, for the same work.

    python benchmarks/vllm_batch_endpoint.py --url http://127.0.0.1:8000/v1
    python benchmarks/vllm_batch_endpoint.py --model MODEL --dtype float32

The sides take turns, round by round, each with its own prompts. The ratio is to ordinary calls
with llmengine. The model decides where answers end, because the endpoint has no ignore_eos.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
from vllm_rounds import Side, print_table, take_turns
from vllm_serving import add_server_options, provenance, served

from llmengine import EngineConfig, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine import Engine


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    with served(options) as url, httpx.Client(timeout=600, trust_env=False) as client:
        engine = EngineConfig(backend="vllm_api", model="", endpoint=url, timeout=600).engine
        model = engine.fingerprint().model or options.model
        sampling = {"temperature": 0, "max_tokens": options.max_tokens}
        sides = [
            Side("calls by llmengine", _calls(url, model, sampling)),
            Side("one batch of all", _batches(client, url, {"model": model, **sampling}, parts=1)),
            Side("four batches", _batches(client, url, {"model": model, **sampling}, parts=4)),
        ]
        sizes = {n: n * options.waves for n in options.in_flight}
        take_turns(sides, sizes, options.rounds, None)
        print("\n".join(provenance(engine, options)))
    print(f"- {options.rounds} rounds, {options.waves} prompts for each in flight\n")
    print_table(sides, sizes)
    print("\nCPU of the client, a prompt:")
    for side in sides:
        micros = [f"{statistics.median(side.cpu[n]) * 1e6:.0f} us at {n}" for n in sizes]
        print(f"- {side.name}: {', '.join(micros)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_server_options(parser)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--waves", type=int, default=1, help="prompts per place in flight")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _calls(url: str, model: str, sampling: dict[str, Any]) -> Any:
    params = SamplingParams(**sampling)

    def work(asked: Sequence[str], in_flight: int) -> int:
        engine = _engine(url, model, in_flight)
        outputs = engine.generate(list(asked), params)
        return sum(o.usage.completion_tokens or 0 for o in outputs if o.usage)

    return work


def _engine(url: str, model: str, in_flight: int) -> Engine:
    fields = {"endpoint": url, "max_concurrency": in_flight, "timeout": 600}
    return EngineConfig(backend="vllm_api", model=model, **fields).engine


def _batches(client: httpx.Client, url: str, body: dict[str, Any], *, parts: int) -> Any:
    def post(asked: Sequence[str]) -> int:
        chats = [[{"role": "user", "content": prompt}] for prompt in asked]
        reply = client.post(f"{url}/chat/completions/batch", json={**body, "messages": chats})
        reply.raise_for_status()
        answer = reply.json()
        assert len(answer["choices"]) == len(asked)
        tokens: int = answer["usage"]["completion_tokens"]
        return tokens

    def work(asked: Sequence[str], in_flight: int) -> int:
        """Send as many prompts per request as are in flight."""
        size = max(1, in_flight // parts)
        pieces = [asked[i : i + size] for i in range(0, len(asked), size)]
        with ThreadPoolExecutor(parts) as pool:
            return sum(pool.map(post, pieces))

    return work


if __name__ == "__main__":
    main()
