"""The one thread that owns a ``vllm.LLM``, and how the loop talks to it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from llmengine.vllm_local.errors import closed, death
from llmengine.vllm_local.job import Job
from llmengine.vllm_local.loading import load_llm, release_llm
from llmengine.vllm_local.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmengine.values.request import ChatRequest
    from llmengine.vllm_local.session import Answers

    Note = Callable[[Session], Answers | None]


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
        job = Job(request)
        if self.ended.is_set():
            raise closed()
        if not self._arrived:
            # Jobs of one turn of the loop go over together, so that they are batched together.
            self._loop.call_soon(self._hand_over)
        self._arrived.append(job)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)
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
        error: Exception | None = None
        try:
            llm = load_llm(model, options)
        except Exception as failed:  # noqa: BLE001 - raised where it is waited for
            self._tell(self._end, failed)
            return
        self._tell(self._loaded.set)
        try:
            self._work(Session(llm))
        except Exception as failed:  # noqa: BLE001 - raised where it is waited for
            error = death(failed)
        release_llm(llm)
        self._tell(self._end, error or closed())

    def _work(self, session: Session) -> None:
        """Carry out notes and step, until a note says to stop; wait where neither is left."""
        while True:
            while not session.is_busy or not self._notes.empty():
                note = self._notes.get()
                if note is None:
                    return
                self._tell(_deliver, note(session))
            self._tell(_deliver, session.step())

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    def _end(self, error: Exception) -> None:
        """On the loop: nothing more comes from the thread."""
        if not self._loaded.is_set():
            self._error = error
            self._loaded.set()
        self.ended.set()
        _deliver([(job, error) for job in self._jobs])


def _deliver(answers: Answers | None) -> None:
    for job, answer in answers or ():
        job.answers.put_nowait(answer)
