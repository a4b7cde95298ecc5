"""A ``vllm.LLM`` at work: jobs go in, steps bring answers out. It belongs to one thread."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.vllm_local.answers import Answers
from llmengine.vllm_local.errors import refusal, unreadable
from llmengine.vllm_local.loading import load_llm
from llmengine.vllm_local.parsers import parsers_of
from llmengine.vllm_local.reading import PlainReader
from llmengine.vllm_local.rendering import render
from llmengine.vllm_local.sampling import vllm_params

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmengine.vllm_local.job import Job
    from llmengine.vllm_local.reading import Readers

    News = list[tuple[Job, Any]]
    """Answers, each with the job it belongs to; an exception ends its job."""


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    answers: Answers


class Session:
    """Starts, steps and aborts the jobs of one LLM."""

    def __init__(self, llm: Any, readers: Readers) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._readers = readers
        self._defaults = llm.model_config.get_diff_sampling_param()
        self._numbers = itertools.count()
        self._running: dict[str, _Running] = {}

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to step."""
        return bool(self._running)

    @property
    def process(self) -> Any:
        """Client of the process that vLLM works in; None where that is this one."""
        client = self._engine.engine_core
        return client if hasattr(client, "resources") else None

    def start(self, jobs: list[Job]) -> News:
        """Hand the jobs to vLLM's scheduler, all before the next step.

        So those that arrive together are batched as ``LLM.chat`` would batch them, which the
        bits of the answers depend on. The news are the errors of those that vLLM refuses.
        """
        return [(job, error) for job in jobs if (error := self._start(job)) is not None]

    def _start(self, job: Job) -> Exception | None:
        name = str(next(self._numbers))
        try:
            reader = self._readers(job.request)
            params = vllm_params(job.request, self._defaults)
            reader.adjust(params)
            self._engine.add_request(name, render(self._llm, job.request), params)
        except Exception as error:  # noqa: BLE001 - one bad prompt fails alone
            return refusal(error)
        self._running[name] = _Running(job, Answers(job.request, reader))
        return None

    def abort(self, job: Job) -> None:
        """Stop generating for a job that nobody waits for; one that is over is left alone."""
        for name in [n for n, running in self._running.items() if running.job is job]:
            self._engine.abort_request([name])
            del self._running[name]

    def step(self) -> News:
        """Let every running job go on by a step; raises if vLLM's engine fails."""
        news: News = []
        for output in self._engine.step():
            running = self._running.get(output.request_id)
            if running is not None:  # else it was given up while the step was on its way
                news += self._read(running, output)
        return news

    def _read(self, running: _Running, output: Any) -> News:
        if output.finished:
            del self._running[output.request_id]
        try:
            return [(running.job, answer) for answer in running.answers.of(output)]
        except Exception as error:  # noqa: BLE001 - one bad answer fails alone
            self.abort(running.job)
            return [(running.job, unreadable(error))]


@contextmanager
def open_session(model: str, options: Mapping[str, Any]) -> Iterator[Session]:
    """A session of that model, with its LLM for as long as the block lasts.

    ``options`` are the arguments of ``vllm.LLM`` and ``tool_call_parser``, which is the server's.
    Raises ConfigError if the model cannot be loaded, or not be read by the parsers.
    """
    arguments = dict(options)
    tools = arguments.pop("tool_call_parser", None)
    reasoning = arguments.get("reasoning_parser")
    llm = load_llm(model, arguments)
    try:
        if reasoning or tools:
            yield Session(llm, parsers_of(llm, reasoning, tools).reader)
        else:
            yield Session(llm, lambda _: PlainReader())
    finally:
        llm.llm_engine.engine_core.shutdown()
