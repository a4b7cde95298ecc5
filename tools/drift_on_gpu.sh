#!/usr/bin/env bash
# Parity and drift of vLLM on a machine with a GPU.
#
#     bash tools/drift_on_gpu.sh MODEL [FOLDER]
#
# MODEL is a folder or a hub name. The environment must have vLLM and this package. For float32 and
# bfloat16, in-process vLLM is compared with a server of the same model (`llmengine parity`), and the
# table of changes is measured (`benchmarks/vllm_drift.py`). Reports and answers are written to
# FOLDER. A model of 1B parameters takes about half an hour.
set -euo pipefail

model=${1:?usage: drift_on_gpu.sh MODEL [FOLDER]}
folder=${2:-.nox/drift/gpu}
root=$(cd "$(dirname "$0")/.." && pwd)
port=${PORT:-8461}
mkdir -p "$folder"

export VLLM_LOGGING_LEVEL=ERROR
# The reference asks the sampler of vLLM's first model runner for the noise under a seed, so the
# server must use that runner too.
export VLLM_USE_V2_MODEL_RUNNER=0
share=0.4 # of the GPU's memory, for each of the server and the engine of this process

for dtype in float32 bfloat16; do
  options="{dtype: $dtype, max_model_len: 2048, gpu_memory_utilization: $share, generation_config: vllm}"
  cat >"$folder/engines.yaml" <<END
- {name: local, backend: vllm_local, model: "$model", options: $options}
- {name: http, backend: vllm_api, model: model, endpoint: "http://127.0.0.1:$port/v1", timeout: 600}
END
  vllm serve "$model" --host 127.0.0.1 --port "$port" --served-model-name model --dtype "$dtype" \
    --max-model-len 2048 --gpu-memory-utilization "$share" --generation-config vllm \
    >"$folder/server.$dtype.log" 2>&1 &
  server=$!
  trap 'kill "$server"' EXIT
  until curl -sf "http://127.0.0.1:$port/health" >/dev/null; do
    kill -0 "$server" || { tail "$folder/server.$dtype.log"; exit 1; }
    sleep 2
  done
  # 0: the same; 1: it differs, which is a result too.
  llmengine parity --config "$folder/engines.yaml" --baseline local --candidate http \
    --report "$folder/parity.$dtype.json" --report "$folder/parity.$dtype.html" || test $? -eq 1
  kill "$server"
  wait "$server" || true
  trap - EXIT
  python "$root/benchmarks/vllm_drift.py" --model "$model" --dtype "$dtype" --runs 2 \
    --engine-args "{\"max_model_len\": 2048, \"gpu_memory_utilization\": $share}" \
    --folder "$folder/$dtype" | tee "$folder/drift.$dtype.md"
done
