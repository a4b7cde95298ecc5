"""Run llama.cpp's own HTTP server from any release of xllamacpp since April 2026.

    python servers/llama_cpp.py MODEL PORT TEMPLATE NAME [SETTINGS]

The settings are those of the embedded engine, so that only the release differs. SETTINGS is a JSON
object of other values for fields of xllamacpp's CommonParams, such as ``{"cache_type_k": 8}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import xllamacpp

CONTEXT, SLOTS, THREADS = 8192, 2, 1


def main(model: str, port: str, template: str, name: str, settings: str = "{}") -> None:
    """Serve until a signal ends this process."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    if hasattr(params, "hostnames"):
        params.hostnames = ["127.0.0.1"]
    else:
        params.hostname = "127.0.0.1"
    params.port = int(port)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = CONTEXT, SLOTS, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.use_jinja = True
    params.chat_template = Path(template).read_text("utf-8")
    setattr(params, "ui" if hasattr(params, "ui") else "webui", False)
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
    params.fit_params = False  # else it loads twice and may shrink the context
    for field, value in json.loads(settings).items():
        # A number becomes a member of the field's enumeration.
        setattr(params, field, type(getattr(params, field))(value))
    server = xllamacpp.Server(params)
    # llama.cpp's own handler ends only the server, not this process.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(server.listening_address, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
