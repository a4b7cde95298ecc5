"""Run a batch file on Ray: python ray_batch.py IN.jsonl OUT.jsonl --url URL --model MODEL."""

import argparse

import ray

from llmengine.integrations.ray_data import run_batch

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("output")
parser.add_argument("--url", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--key-env", help="the environment variable with the key on every node")
parser.add_argument("--actors", type=int, default=4)
arguments = parser.parse_args()

ray.init(include_dashboard=False)
engine = {
    "backend": "openai_compatible",
    "endpoint": arguments.url,
    "model": arguments.model,
    "api_key_env": arguments.key_env,
    "max_concurrency": 64,
}
report = run_batch(
    arguments.source,
    arguments.output,
    engine,
    actors=arguments.actors,
    num_cpus=0.5,
    on_progress=lambda now: print(f"{now.done} of {now.total}, {now.failed} failed", flush=True),
)
print(*report.errors, sep="\n")
raise SystemExit(0 if report.ok else 1)
