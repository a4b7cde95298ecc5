"""A stand-in for vLLM: an LLM that counts, one word per step.

It has what ``vllm_local`` uses of vLLM and records its use. A model named "missing" cannot be
loaded; prompts that begin with "too long", "broken", "odd", "die" or "vanish" do what they say.
"""

from __future__ import annotations

import json
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, ClassVar

from vllm.sampling_params import RequestOutputKind, SamplingParams

__version__ = "0.12.0"
__all__ = ["LLM", "SamplingParams"]

WORDS = ("one ", "two ", "three ", "four ", "five ")


class LLM:
    """Looks like ``vllm.LLM``; ``loaded`` has all instances, in order."""

    loaded: ClassVar[list[LLM]] = []

    def __init__(self, model: str, **options: Any) -> None:
        if model == "missing":
            raise OSError("no such folder")
        self.options = options
        self.llm_engine = Engine()
        self.model_config = SimpleNamespace(get_diff_sampling_param=lambda: {"temperature": 0.6})
        self.rendered: list[dict[str, Any]] = []
        LLM.loaded.append(self)

    def _preprocess_chat(self, conversations: list[Any], **arguments: Any) -> list[Any]:
        self.rendered.append(arguments)
        for call in (c for m in conversations[0] for c in m.get("tool_calls", ())):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        return [{"prompt": c[-1]["content"], "prompt_token_ids": [1, 2]} for c in conversations]


class Engine:
    """Looks like vLLM's ``LLMEngine``; ``steps`` has the prompts that each step continued."""

    def __init__(self) -> None:
        self.engine_core = SimpleNamespace(
            shutdown=self._shut_down,
            resources=SimpleNamespace(engine_dead=False),
            outputs_queue=SimpleQueue(),
        )
        self.is_shut_down = False
        self.params: list[SamplingParams] = []
        self.steps: list[list[str]] = []
        self.aborted: list[str] = []
        self._running: dict[str, Any] = {}

    def add_request(self, request_id: str, prompt: Any, params: SamplingParams) -> None:
        """Take a request, or refuse it as vLLM would."""
        if prompt["prompt"].startswith("too long"):
            raise ValueError("The prompt is longer than max_model_len")
        self.params.append(params)
        self._running[request_id] = SimpleNamespace(prompt=prompt, params=params, done=0)

    def abort_request(self, request_ids: list[str]) -> None:
        """Forget requests."""
        self.aborted += [self._running.pop(name).prompt["prompt"] for name in request_ids]

    def step(self) -> list[Any]:
        """Add one word to every running request."""
        self.steps.append([r.prompt["prompt"] for r in self._running.values()])
        if any(prompt.startswith("die") for prompt in self.steps[-1]):
            raise RuntimeError("out of memory")
        if any(prompt.startswith("vanish") for prompt in self.steps[-1]):
            self.engine_core.resources.engine_dead = True
            raise self.engine_core.outputs_queue.get()
        outputs = [self._go_on(name) for name in list(self._running)]
        return [output for output in outputs if output is not None]

    def _go_on(self, name: str) -> Any:
        running = self._running[name]
        running.done += 1
        limit = running.params.max_tokens
        finished = limit is not None and running.done >= limit
        if finished:
            del self._running[name]
        elif running.params.output_kind is RequestOutputKind.FINAL_ONLY:
            return None
        return _output(name, running, finished=finished)

    def _shut_down(self) -> None:
        self.is_shut_down = True


def _output(name: str, running: Any, *, finished: bool) -> Any:
    is_delta = running.params.output_kind is RequestOutputKind.DELTA
    places = range(running.done - 1 if is_delta else 0, running.done)
    broken, odd = (running.prompt["prompt"].startswith(word) for word in ("broken", "odd"))
    answer = SimpleNamespace(
        index=0,
        text="".join(WORDS[place % len(WORDS)] for place in places),
        token_ids=None if odd else [100 + place for place in places],
        logprobs=None,
        finish_reason=("error" if broken else "length") if finished else None,
        stop_reason=None,
    )
    return SimpleNamespace(
        request_id=name,
        prompt_token_ids=running.prompt["prompt_token_ids"],
        prompt_logprobs=None,
        outputs=[answer],
        finished=finished,
        num_cached_tokens=1,
    )
