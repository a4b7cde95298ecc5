"""The one thread that owns a ``vllm.LLM``, and how the loop talks to it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from traceback import clear_frames
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from llmengine.types.errors import LLMEngineError
from llmengine.vllm_local.errors import closed, death
from llmengine.vllm_local.job import Job
from llmengine.vllm_local.loading import free_memory
from llmengine.vllm_local.session import open_session
from llmengine.vllm_local.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.session import News, Session

    Note = Callable[[Session], News | None]


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

    def _carry_out_notes(self, session: Session) -> bool:
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
