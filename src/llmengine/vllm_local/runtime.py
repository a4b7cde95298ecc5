"""The thread that owns a ``vllm.LLM``, and the requests that the background loop sends to it.

There is one LLM per process for one configuration, even if several engines have that configuration.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from traceback import clear_frames
from typing import TYPE_CHECKING
from weakref import WeakSet

from pydantic_core import to_json

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.types.errors import APITimeoutError, LLMEngineError
from llmengine.vllm_local.outputs import END, Job
from llmengine.vllm_local.session import engine_closed, engine_failure, free_memory, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from llmengine.transport.loop import Background
    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.session import JobAnswers, LLMSession
    from llmengine.vllm_local.vllm_objects import ProcessClient

    Command = Callable[[LLMSession], JobAnswers | None]


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """An Outgoing that this process answers; ``total`` is in seconds.

    The reply has the form of a reply from vLLM's server, so the same dialect reads it.
    """

    thread: LLMThread
    request: ChatRequest
    total: float | None

    async def fetch(self) -> HTTPReply:
        """Generate and return the whole answer."""
        try:
            async with asyncio.timeout(self.total):
                with self.thread.job(self.request) as job:
                    body = await job.answer()
        except TimeoutError as error:
            msg = f"no whole answer from vLLM in this process within {self.total:g} s"
            raise APITimeoutError(msg, clock="total") from error
        return HTTPReply(200, {"Content-Type": "application/json"}, to_json(body))

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[HTTPStream]:
        """Generate the answer as a stream, with one chunk per step of vLLM."""
        with self.thread.job(self.request) as job:
            yield HTTPStream(200, {"Content-Type": "text/event-stream"}, _events(job))


async def _events(job: Job) -> AsyncIterator[bytes]:
    while (body := await job.answer()) is not END:
        yield b"data: " + to_json(body) + b"\n\n"
    yield b"data: [DONE]\n\n"


_WATCH_SECONDS = 1.0


async def watch(client: ProcessClient) -> None:
    """Wake the thread that waits for vLLM's own process if that process has ended.

    `client` is vLLM's client of the process. A process that is killed sends no last message.
    vLLM (0.12 to 0.32) notices that but does not wake the thread that waits for the next step, so
    the thread would wait for ever.
    """
    while not client.resources.engine_dead:  # noqa: ASYNC110 - vLLM only sets a flag
        await asyncio.sleep(_WATCH_SECONDS)
    client.outputs_queue.put_nowait(RuntimeError("the process of vLLM's engine has ended"))


class LLMThread:
    """Loads an LLM, steps it while there are jobs, and releases it at the end.

    The public methods are called on the background loop and do not touch vLLM. They pass commands
    to the thread, which runs them between two steps. ``users`` are the engines that use
    the LLM.
    """

    def __init__(self, model: str, options: Mapping[str, object]) -> None:
        self.users: WeakSet[object] = WeakSet()
        self.is_closing = False
        self.ended = asyncio.Event()
        self._loaded = asyncio.Event()
        self._error: Exception | None = None
        self._watch: asyncio.Task[None] | None = None
        self._jobs: set[Job] = set()
        self._arrived: list[Job] = []
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        run = partial(self._run, model, options)
        threading.Thread(target=run, name="llmengine-vllm", daemon=True).start()

    async def loaded(self) -> None:
        """Wait until the model is loaded; raises ConfigError if it cannot be."""
        await self._loaded.wait()
        if self._error is not None:
            raise self._error

    @contextmanager
    def job(self, request: ChatRequest) -> Iterator[Job]:
        """The job of a request; if it is not over when the block is left, it is aborted."""
        if self.ended.is_set():
            raise engine_closed()
        job = Job(request)
        if not self._arrived:
            # Jobs that arrive in one iteration of the loop are started together, so that vLLM
            # batches them.
            self._loop.call_soon(self._start_arrived)
        self._arrived.append(job)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)
            if job in self._arrived:
                self._arrived.remove(job)
            elif not job.is_over:
                self._commands.put(lambda session: session.abort(job))

    async def aclose(self) -> None:
        """Abort the jobs that are under way and release the LLM."""
        self.is_closing = True
        self._commands.put(None)
        await self.ended.wait()

    def _start_arrived(self) -> None:
        jobs, self._arrived = self._arrived, []
        self._commands.put(lambda session: session.start(jobs))

    # ---- run in the thread

    def _run(self, model: str, options: Mapping[str, object]) -> None:
        error: Exception = engine_closed()
        try:
            self._run_session(model, options)
        except Exception as failed:  # noqa: BLE001 - raised to the callers
            clear_frames(failed.__traceback__)  # the frames hold references to the LLM
            error = failed if isinstance(failed, LLMEngineError) else engine_failure(failed)
        free_memory()
        self._call_on_loop(self._on_ended, error)

    def _run_session(self, model: str, options: Mapping[str, object]) -> None:
        with open_session(model, options) as session:
            self._call_on_loop(self._on_loaded, session.process)
            while self._run_commands(session):
                self._send_answers(session.step())

    def _run_commands(self, session: LLMSession) -> bool:
        """Run the commands of the loop; wait for one if no job is running.

        Returns whether to continue; False if the loop wants the thread to stop.
        """
        while not (session.is_busy and self._commands.empty()):
            command = self._commands.get()
            if command is None:
                return False
            self._send_answers(command(session))
        return True

    def _send_answers(self, answers: JobAnswers | None) -> None:
        if answers:
            self._call_on_loop(_deliver, answers)

    def _call_on_loop(self, what: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    # ---- called on the loop by the thread

    def _on_loaded(self, process: ProcessClient | None) -> None:
        self._loaded.set()
        if process is not None:
            self._watch = self._loop.create_task(watch(process))

    def _on_ended(self, error: Exception) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self._loaded.is_set():
            self._error = error
            self._loaded.set()
        self.ended.set()
        _deliver([(job, error) for job in self._jobs])


def _deliver(answers: JobAnswers) -> None:
    for job, answer in answers:
        job.put(answer)


class Share:
    """An engine's share in the LLM of a configuration; its methods are called on the loop.

    The loop holds the LLMs. So they end with the loop at exit, and a forked child starts without
    them.
    """

    def __init__(self, user: object, model: str, options: Mapping[str, object]) -> None:
        self._user = user
        self._model = model
        self._options = options
        self._name = f"vllm {model} {sorted(options.items())}"

    async def loaded(self, loop: Background) -> None:
        """Wait until the model is loaded; raises ConfigError if it cannot be."""
        while (thread := self.thread(loop)).is_closing:
            await thread.ended.wait()
        await thread.loaded()

    def thread(self, loop: Background) -> LLMThread:
        """The thread of the LLM, started if there is none."""
        existing = loop.existing(self._name)
        if existing is not None and existing.ended.is_set():
            loop.drop(self._name)
        thread = loop.shared(self._name, lambda: LLMThread(self._model, self._options))
        thread.users.add(self._user)
        return thread

    async def leave(self, loop: Background) -> None:
        """Give up the share; when the last share is given up, the LLM is released."""
        thread: LLMThread | None = loop.existing(self._name)
        if thread is None:
            return
        thread.users.discard(self._user)
        if not thread.users:
            await thread.aclose()
