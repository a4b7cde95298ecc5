"""The real changes of a llama.cpp server that `table.py` measures.

Each change is run as a server of its own: another process of llama.cpp with other settings, weights
or another release, and where the change is one of requests or answers, a gateway in front of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gateways

from llmengine.embedded import models
from pytest_llmengine.drift import DriftTier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gateways import Gateway

ROOT = Path(__file__).parents[2]
MODEL = "smollm2-135m"
SETTINGS: Mapping[str, Any] = {
    # A slot of 512 tokens for each prompt of a check, so that only new tokens are computed.
    "n_ctx": 12_288,
    "n_parallel": 24,
    "slot_prompt_similarity": 0.9,
}
WEIGHTS = ROOT / ".nox" / "drift"  # converted files

_Q8_0, _Q4_0 = 8, 2  # members of ggml_type
_FLASH_OFF = 0
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What differs from the baseline's server.

    ``settings`` are fields of xllamacpp's CommonParams. ``weights`` is a form of
    ``servers/weights.py``, and ``release`` a session of nox that installs another release.
    ``gateway`` gets the number of the run as its seed. ``loads`` are the numbers of requests in
    flight, if they are others than those of the baseline. ``tiers`` are those in which the change
    is another one than a row before it. ``against`` is the change that the baseline's server has as
    well.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    release: str = ""
    gateway: Callable[[int], Gateway] | None = None
    loads: tuple[int, ...] = ()
    tiers: Sequence[DriftTier] = (DriftTier.LOGPROBS, DriftTier.TEXT)
    against: str = "none"


CHANGES: Mapping[str, Change] = {
    "none": Change(),
    "none, 1 request at a time": Change(loads=(1,)),
    "none, 16 requests in flight": Change(loads=(16,)),
    "weights float32": Change(weights="f32"),
    "weights bfloat16": Change(weights="bf16"),
    "weights Q8_0": Change(weights="q8_0"),
    "weights Q4_0": Change(weights="q4_0"),
    "KV cache q8_0": Change(settings={"cache_type_k": _Q8_0, "cache_type_v": _Q8_0}),
    "KV cache q4_0": Change(settings={"cache_type_k": _Q4_0, "cache_type_v": _Q4_0}),
    "flash attention off": Change(settings={"flash_attn_type": _FLASH_OFF}),
    "llama.cpp of April 2026": Change(release="servers-llama.cpp-b8672"),
    "another template": Change(settings={"chat_template": _CHATML}),
    "hidden system prompt": Change(
        gateway=lambda _: gateways.system_prompt("You are a helpful assistant of Acme.")
    ),
    "temperature 0.05": Change(gateway=lambda _: gateways.other_fields(temperature=0.05)),
    "repetition penalty 1.02": Change(gateway=lambda _: gateways.other_fields(repeat_penalty=1.02)),
    "another seed": Change(gateway=lambda run: gateways.other_fields(seed=run + 7)),
    "context of 256 tokens": Change(settings={"n_ctx": 6_144}),
    "last token of 2% dropped": Change(
        gateway=lambda run: gateways.shorter_answers(0.02, run, consistent=True)
    ),
    "last token of 2% dropped, text only": Change(
        gateway=lambda run: gateways.shorter_answers(0.02, run, consistent=False)
    ),
    "two answers of 200 swapped": Change(
        gateway=lambda run: gateways.swapped_answers(run, consistent=True)
    ),
    "two answers of 200 swapped, text only": Change(
        gateway=lambda run: gateways.swapped_answers(run, consistent=False)
    ),
    "cached answers": Change(gateway=lambda _: gateways.cached_answers()),
    "no log-probabilities": Change(
        gateway=lambda _: gateways.text_only(), tiers=[DriftTier.LOGPROBS]
    ),
    "no log-probabilities, weights bfloat16": Change(
        weights="bf16", gateway=lambda _: gateways.text_only(), tiers=[DriftTier.LOGPROBS]
    ),
    # With these weights, the answers of llama.cpp depend on what else is in the batch.
    "none, of bfloat16": Change(
        weights="bf16", against="weights bfloat16", tiers=[DriftTier.LOGPROBS]
    ),
    "KV cache q8_0, of bfloat16": Change(
        weights="bf16",
        settings={"cache_type_k": _Q8_0, "cache_type_v": _Q8_0},
        against="weights bfloat16",
        tiers=[DriftTier.LOGPROBS],
    ),
    "weights float32, of bfloat16": Change(
        weights="f32", against="weights bfloat16", tiers=[DriftTier.LOGPROBS]
    ),
}


@contextmanager
def running(change: Change, run: int = 0) -> Iterator[str]:
    """Run a server with the change; yields its address, without ``/v1``."""
    with ExitStack() as stack:
        url = stack.enter_context(_llama_cpp(change))
        if change.gateway is not None:
            url = stack.enter_context(gateways.running(change.gateway(run), url))
        yield url


@contextmanager
def _llama_cpp(change: Change) -> Iterator[str]:
    """Run llama.cpp in a process of its own."""
    template = models.chat_template(MODEL)
    settings = json.dumps({**SETTINGS, **change.settings})
    program = [_python(change), str(ROOT / "servers" / "llama_cpp.py")]
    arguments = [str(_weights(change)), "0", str(template), MODEL, settings]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [*program, *arguments], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            address = next((line for line in process.stdout if line.startswith("http")), None)
            if address is None:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start: {log.read()[-2000:]}")
            yield address.strip()
        finally:
            process.terminate()


def _python(change: Change) -> str:
    """The Python that has the release; nox installs it once."""
    if not change.release:
        return sys.executable
    python = ROOT / ".nox" / change.release.replace(".", "-") / "bin" / "python"
    if not python.exists():
        nox = [sys.executable, "-m", "nox", "-s", change.release, "--install-only"]
        subprocess.run(nox, cwd=ROOT, check=True)
    return str(python)


def _weights(change: Change) -> Path:
    """The weights in the form of the change; they are converted once."""
    source = models.resolve(MODEL)
    if not change.weights:
        return source
    target = WEIGHTS / f"{MODEL}-{change.weights}.gguf"
    if not target.exists():
        part = target.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        script = str(ROOT / "servers" / "weights.py")
        command = [sys.executable, script, change.weights, str(source), str(part)]
        subprocess.run(command, check=True)
        part.rename(target)
    return target
