"""The program in the test image: the mock server in place of Ollama or vLLM.

With the command of vLLM's image it listens on that image's port, otherwise on Ollama's. Some names
of models make it fail or wait.
"""

from __future__ import annotations

import sys
import time

from llmengine.mock import Fault, MockServer, Script

ANYWHERE = "0.0.0.0"


def main(argv: list[str]) -> None:
    """Serve until the container is stopped."""
    if argv[:1] != ["--model"]:
        serve("mock", 11434)
    elif argv[1] == "dies":
        sys.exit("RuntimeError: no kernel image is available for execution on the device")
    elif argv[1] == "sleeps":
        sys.stderr.write("loading weights, 0 %\n")
        time.sleep(600)
    elif argv[1] == "wakes":
        serve("wakes", 8000, Script(faults=[Fault(status=503)] * 3))
    else:
        serve(argv[1], 8000)


def serve(model: str, port: int, script: Script | None = None) -> None:
    """Listen on all addresses of the container, of which Docker publishes one."""
    with MockServer(model=model, host=ANYWHERE, port=port, script=script) as server:
        server.wait()


main(sys.argv[1:])
