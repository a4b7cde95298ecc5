"""Compare in-process vLLM with vLLM over HTTP, with our client and the openai SDK.

    python benchmarks/vllm_throughput.py --model MODEL --dtype float32 \
        --engine-args '{"max_model_len": 2048, "enforce_eager": true, "max_num_seqs": 64}'
    python benchmarks/vllm_throughput.py --model MODEL \
        --engine-args '{"gpu_memory_utilization": 0.3}'

The server is started with the model and the same arguments as the LLM of this process, unless
``--url`` names a running one. On one GPU all of them share its memory, so give each a part.
The sides take turns, round by round, with their own prompts; the ratio is to ``vllm.LLM``. Needs
vllm and openai in this environment. On a CPU set the variables of docs/vllm_server.md.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vllm_rounds import Side, print_table, take_turns
from vllm_serving import add_server_options, provenance, served
from vllm_sides import llmengine, llmengine_streamed, openai_sdk, plain_vllm, vllm_local

from llmengine import EngineConfig

if TYPE_CHECKING:
    from llmengine import Engine

IN_PROCESS = {"vllm.LLM": plain_vllm, "vllm_local": vllm_local}


def main() -> None:
    """Measure, and print the table."""
    options = _options()
    with served(options) as url:
        engine = EngineConfig(backend="vllm_api", model="", endpoint=url).engine
        sides = _sides(options, url, engine)
        sizes = {n: max(n, options.least) for n in options.in_flight}
        take_turns(sides, sizes, options.rounds, options.max_tokens)
        print("\n".join(provenance(engine, options)))
    count = ", ".join(f"{count} prompts at {n}" for n, count in sizes.items())
    print(f"- {options.rounds} rounds of {count} in flight, {options.max_tokens} tokens each\n")
    print_table(sides, sizes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_server_options(parser)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--least", type=int, default=4, help="smallest number of prompts per run")
    parser.add_argument(
        "--max-tokens", type=int, default=32, help="exact number of tokens of every answer"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-process", nargs="*", choices=IN_PROCESS, default=list(IN_PROCESS))
    return parser.parse_args()


def _sides(options: argparse.Namespace, url: str, engine: Engine) -> list[Side]:
    model, tokens = engine.fingerprint().model or options.model, options.max_tokens
    arguments = {"dtype": options.dtype, **options.engine_args}
    here = [
        Side(name, IN_PROCESS[name](options.model, arguments, tokens))
        for name in options.in_process
    ]
    return [
        *here,
        Side("HTTP, llmengine", llmengine(model, url, tokens)),
        Side("HTTP, llmengine, streamed", llmengine_streamed(model, url, tokens)),
        Side("HTTP, openai", openai_sdk(model, url, tokens, stream=False)),
        Side("HTTP, openai, streamed", openai_sdk(model, url, tokens, stream=True)),
    ]


if __name__ == "__main__":
    main()
