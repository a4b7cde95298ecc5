"""A ``vllm.LLM`` at work: jobs go in, steps bring answers out. It belongs to one thread."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from llmengine.vllm_local.answers import last, piece, whole
from llmengine.vllm_local.errors import refusal
from llmengine.vllm_local.job import END, Job
from llmengine.vllm_local.rendering import render
from llmengine.vllm_local.sampling import vllm_params

if TYPE_CHECKING:
    from collections.abc import Iterator

    Answers = list[tuple[Job, Any]]


class Session:
    """Starts, steps and aborts the jobs of one LLM."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._defaults = llm.model_config.get_diff_sampling_param()
        self._numbers = itertools.count()
        self._running: dict[str, Job] = {}
        self._generated: defaultdict[Job, int] = defaultdict(int)  # tokens, of streams

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to step."""
        return bool(self._running)

    def start(self, jobs: list[Job]) -> Answers:
        """Hand the jobs to vLLM's scheduler, all before the next step.

        So those that arrive together are batched as ``LLM.chat`` would batch them, which the
        bits of the answers depend on. The answers are the errors of those that vLLM refuses.
        """
        return [(job, error) for job in jobs if (error := self._start(job)) is not None]

    def _start(self, job: Job) -> Exception | None:
        name = str(next(self._numbers))
        try:
            params = vllm_params(job.request, self._defaults)
            self._engine.add_request(name, render(self._llm, job.request), params)
        except Exception as error:  # noqa: BLE001 - one bad prompt fails alone
            return refusal(error)
        self._running[name] = job
        return None

    def abort(self, job: Job) -> None:
        """Stop generating for a job that nobody waits for; one that is over is left alone."""
        for name in [n for n, running in self._running.items() if running is job]:
            self._engine.abort_request([name])
            self._forget(name)

    def step(self) -> Answers:
        """Let every running job go on by a step; raises if vLLM's engine fails."""
        answers: Answers = []
        for output in self._engine.step():
            if (job := self._running.get(output.request_id)) is None:
                continue  # aborted while the step was on its way
            answers += [(job, answer) for answer in self._answers(job, output)]
            if output.finished:
                self._forget(output.request_id)
        return answers

    def _forget(self, name: str) -> None:
        self._generated.pop(self._running.pop(name), None)

    def _answers(self, job: Job, output: Any) -> Iterator[Any]:
        if not job.request.stream:
            yield whole(output, job.request)
            return
        self._generated[job] += sum(len(o.token_ids) for o in output.outputs)
        yield piece(output, job.request)
        if output.finished:
            yield last(output, job.request, self._generated[job])
            yield END
