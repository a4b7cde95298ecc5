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
from llmengine.vllm_local.session import closed, death, free_memory, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from llmengine.transport.loop import Background
    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.session import LLMSession, News
    from llmengine.vllm_local.vllm_objects import ProcessClient

    Note = Callable[[LLMSession], News | None]


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """An Outgoing that is answered in this process; ``total`` is in seconds.

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


_SECONDS = 1.0


async def watch(client: ProcessClient) -> None:
    """Wake the thread that waits for vLLM's own process when that process has died.

    `client` is vLLM's client of the process. A process that is killed sends no last message.
    vLLM (0.12 to 0.32) notices the death but does not tell the thread that waits for the next
    step, so that thread would wait for ever.
    """
    while not client.resources.engine_dead:  # noqa: ASYNC110 - vLLM only sets a flag
        await asyncio.sleep(_SECONDS)
    client.outputs_queue.put_nowait(RuntimeError("the process that vLLM works in is dead"))


class LLMThread:
    """Loads an LLM, steps it while there are jobs, and releases it at the end.

    The public methods are called on the background loop and do not touch vLLM. They pass notes
    to the thread, which carries them out between two steps. ``users`` are the engines that use
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
        self._notes: SimpleQueue[Note | None] = SimpleQueue()
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
            raise closed()
        job = Job(request)
        if not self._arrived:
            # Jobs of one turn of the loop are passed on together, so that vLLM batches them.
            self._loop.call_soon(self._hand_over)
        self._arrived.append(job)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)
            if job in self._arrived:
                self._arrived.remove(job)
            elif not job.is_over:
                self._notes.put(lambda session: session.abort(job))

    async def aclose(self) -> None:
        """Abort the jobs that are under way and release the LLM."""
        self.is_closing = True
        self._notes.put(None)
        await self.ended.wait()

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        self._notes.put(lambda session: session.start(jobs))

    # ---- the thread

    def _run(self, model: str, options: Mapping[str, object]) -> None:
        error: Exception = closed()
        try:
            self._live(model, options)
        except Exception as failed:  # noqa: BLE001 - raised to those who wait
            clear_frames(failed.__traceback__)  # the frames hold references to the LLM
            error = failed if isinstance(failed, LLMEngineError) else death(failed)
        free_memory()
        self._tell(self._end, error)

    def _live(self, model: str, options: Mapping[str, object]) -> None:
        with open_session(model, options) as session:
            self._tell(self._begin, session.process)
            while self._carry_out_notes(session):
                self._spread(session.step())

    def _carry_out_notes(self, session: LLMSession) -> bool:
        """Carry out the notes of the loop; wait for one if there is no job to step.

        Returns whether to continue: False once the loop has asked to stop.
        """
        while not (session.is_busy and self._notes.empty()):
            note = self._notes.get()
            if note is None:
                return False
            self._spread(note(session))
        return True

    def _spread(self, news: News | None) -> None:
        if news:
            self._tell(_deliver, news)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    # ---- what the thread tells the loop

    def _begin(self, process: ProcessClient | None) -> None:
        self._loaded.set()
        if process is not None:
            self._watch = self._loop.create_task(watch(process))

    def _end(self, error: Exception) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self._loaded.is_set():
            self._error = error
            self._loaded.set()
        self.ended.set()
        _deliver([(job, error) for job in self._jobs])


def _deliver(news: News) -> None:
    for job, answer in news:
        job.take(answer)


class Share:
    """An engine's share in the LLM of a configuration; its methods are called on the loop.

    The loop holds the LLMs. So they end with it, at exit, and a forked child starts without them.
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
