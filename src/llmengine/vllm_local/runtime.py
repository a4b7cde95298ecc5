"""One request to the LLM of this process, as the rest of the library sends requests.

Notices the death of the process that vLLM works in, where it has one of its own.

The one thread that owns a ``vllm.LLM``, and how the loop talks to it.

One LLM a process for one configuration, however many engines have it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from traceback import clear_frames
from typing import TYPE_CHECKING, Any
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

    Note = Callable[[LLMSession], News | None]


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """An Outgoing that never leaves the process; ``total`` is in seconds.

    What comes back is what vLLM's server would have sent, so that it is read as a server's is.
    """

    thread: LLMThread
    request: ChatRequest
    total: float | None

    async def fetch(self) -> HTTPReply:
        """Generate it and take the whole answer."""
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
        """Generate it; every step's tokens come as a chunk."""
        with self.thread.job(self.request) as job:
            yield HTTPStream(200, {"Content-Type": "text/event-stream"}, _events(job))


async def _events(job: Job) -> AsyncIterator[bytes]:
    while (body := await job.answer()) is not END:
        yield b"data: " + to_json(body) + b"\n\n"
    yield b"data: [DONE]\n\n"


_SECONDS = 1.0


async def watch(client: Any) -> None:
    """Wake whoever waits for that process once it is dead; `client` is vLLM's own of it.

    A process that is killed leaves no last word, and vLLM (0.12 to 0.32) notes its death without
    telling the thread that waits for its next step, which would wait for ever.
    """
    while not client.resources.engine_dead:  # noqa: ASYNC110 - vLLM sets a flag alone
        await asyncio.sleep(_SECONDS)
    client.outputs_queue.put_nowait(RuntimeError("the process that vLLM works in is dead"))


class LLMThread:
    """Loads an LLM, steps it while there are jobs, and releases it at the end.

    All methods are for the loop; nothing of vLLM is touched there. What the loop asks for goes
    over as notes, which the thread carries out between two steps. ``users`` are those that
    the LLM is kept for.
    """

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
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
        """The request under way; leaving the block aborts what is not over."""
        if self.ended.is_set():
            raise closed()
        job = Job(request)
        if not self._arrived:
            # Jobs of one turn of the loop go over together, so that they are batched together.
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
        """Give up what is under way and release the LLM."""
        self.is_closing = True
        self._notes.put(None)
        await self.ended.wait()

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        self._notes.put(lambda session: session.start(jobs))

    # ---- the thread

    def _run(self, model: str, options: Mapping[str, Any]) -> None:
        error: Exception = closed()
        try:
            self._live(model, options)
        except Exception as failed:  # noqa: BLE001 - raised where it is waited for
            clear_frames(failed.__traceback__)  # they hold the LLM
            error = failed if isinstance(failed, LLMEngineError) else death(failed)
        free_memory()
        self._tell(self._end, error)

    def _live(self, model: str, options: Mapping[str, Any]) -> None:
        with open_session(model, options) as session:
            self._tell(self._begin, session.process)
            while self._carry_out_notes(session):
                self._spread(session.step())

    def _carry_out_notes(self, session: LLMSession) -> bool:
        """Do what the loop asked for, and wait for it where there is nothing to step.

        Whether to go on; False once it asked to stop.
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

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    # ---- what the thread tells the loop

    def _begin(self, process: Any) -> None:
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
    """A user's share in the LLM of a configuration; its methods are for the loop.

    The loop keeps the LLMs, so they end with it, at exit, and a forked child begins without any.
    """

    def __init__(self, user: object, model: str, options: Mapping[str, Any]) -> None:
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
        """The thread of the LLM, which is started where there is none."""
        kept = loop.kept(self._name)
        if kept is not None and kept.ended.is_set():
            loop.drop(self._name)
        thread = loop.shared(self._name, lambda: LLMThread(self._model, self._options))
        thread.users.add(self._user)
        return thread

    async def leave(self, loop: Background) -> None:
        """Give the share up; the last one releases the LLM."""
        thread: LLMThread | None = loop.kept(self._name)
        if thread is None:
            return
        thread.users.discard(self._user)
        if not thread.users:
            await thread.aclose()
