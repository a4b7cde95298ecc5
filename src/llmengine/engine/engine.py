"""The engine, which is the client of one model behind one server, and its configuration.

The engine checks a call's arguments and runs the call on the background loop. The backend knows
the server: its address, its wire format and its peculiarities.
"""

from __future__ import annotations

import operator
import warnings
from copy import deepcopy
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from llmengine.backends.base import Backend
from llmengine.config.backends import load_backend
from llmengine.config.settings import EngineSettings
from llmengine.engine.channel import Channel
from llmengine.engine.job_queue import JobQueue
from llmengine.engine.options import (
    NO_OPTIONS,
    CallOptions,
    as_prompts,
    as_sampling,
    as_window,
    build_request,
    prompt_source,
)
from llmengine.engine.results import job_maker, results_in_window, results_of, supported
from llmengine.engine.stream import MAX_QUEUED, StreamReader
from llmengine.engine.sync import await_on, block_on, iterate, run
from llmengine.telemetry.usage import log_batch
from llmengine.transport.loop import background
from llmengine.types.errors import (
    ConfigError,
    InvalidRequestError,
    LLMEngineError,
    detached,
)
from llmengine.types.results import BatchError
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from llmengine.backends.connection import Connection
    from llmengine.engine.options import Options
    from llmengine.engine.results import Job, JobMaker
    from llmengine.engine.sync import Wait
    from llmengine.types.outputs import Delta, Fingerprint, LLMOutput, Tokens
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.results import Result


T = TypeVar("T")

# The attributes of an engine that have moved to its backend.
_MOVED_TO_BACKEND = frozenset(
    {"capabilities", "clocks", "concurrency", "dialect", "endpoint", "in_process", "url", "window"}
)


class Engine:
    """A client of one model behind one server; apart from caches, it holds only configuration.

    An engine may be shared between threads, used in a running event loop and after a fork, and
    pickled. Its ``backend`` holds what is specific to its server.

    The keyword options of all calls are the fields of CallOptions.

    The backend is the one that the configuration names, unless a class is given. Raises
    ConfigError if the configuration does not fit the backend.
    """

    def __init__(self, config: EngineConfig, backend: type[Backend] | None = None) -> None:
        self.config = config
        self.backend = (backend or _backend_of(config))(config)

    @property
    def name(self) -> str:
        """The engine's name, as configured."""
        return self.config.name

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.config.model

    @property
    def base_url(self) -> str:
        """The address for an OpenAI SDK, which ends in ``/v1``."""
        return self.backend.base_url

    @property
    def root_url(self) -> str:
        """The server's address without ``/v1``."""
        return self.backend.root_url

    @property
    def api_key(self) -> str | None:
        """The key in plain text, to be passed to another client of the same server."""
        return self.backend.address.key

    @property
    def server(self) -> Any:
        """The server that this process runs for the engine: a MockServer or an EmbeddedServer.

        Raises ConfigError for a backend whose server runs elsewhere.
        """
        return self.backend.server

    # ---- calls

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[LLMOutput]:
        """One output per prompt, in order; a prompt is a string or a list of messages.

        ``sampling_params`` is one SamplingParams (this library's or vLLM's), or a list with one
        per prompt. Raises BatchError, which carries all results, if any prompt failed.
        """
        return run(self._generate(block_on, prompts, sampling_params, options))

    async def agenerate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[LLMOutput]:
        """`generate` for a running event loop."""
        return await self._generate(await_on, prompts, sampling_params, options)

    def results(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[Result]:
        """`generate` without raising: one Result per prompt, in order, answered or failed."""
        return run(self._results(block_on, prompts, sampling_params, options))

    async def aresults(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[Result]:
        """`results` for a running event loop."""
        return await self._results(await_on, prompts, sampling_params, options)

    def iter_results(
        self,
        prompts: Iterable[Prompt],
        sampling_params: object = None,
        *,
        window: int | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Result]:
        """Results in order over any iterable, in constant memory.

        The prompts are drawn as results are read; ``window`` is how many may be started and not
        yet read; the default depends on the engine's concurrency.
        """
        return iterate(self._windowed(block_on, prompts, sampling_params, window, options))

    def aiter_results(
        self,
        prompts: Iterable[Prompt] | AsyncIterable[Prompt],
        sampling_params: object = None,
        *,
        window: int | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Result]:
        """`iter_results` for a running event loop; the prompts may be an async iterable too."""
        return self._windowed(await_on, prompts, sampling_params, window, options)

    def stream(
        self, prompt: Prompt, sampling_params: object = None, **options: Unpack[Options]
    ) -> Iterator[Delta]:
        """The answer to one prompt as it is generated.

        Raises StreamIncompleteError, holding the partial text, if the stream ends without its
        terminal event. A failure before the first content is retried; a later one is not. With an
        ``output_model``, an answer that does not fit raises after its last text; an answer that
        fits ends with a delta that has ``parsed``.
        """
        return iterate(self._stream(block_on, prompt, sampling_params, options))

    def astream(
        self, prompt: Prompt, sampling_params: object = None, **options: Unpack[Options]
    ) -> AsyncIterator[Delta]:
        """`stream` for a running event loop."""
        return self._stream(await_on, prompt, sampling_params, options)

    # ---- questions about the server; the answers are not cached

    def fingerprint(self) -> Fingerprint:
        """The identity of the server: its version, its model, and what it reports about them.

        Raises CallError if the server cannot be reached or refuses the key.
        """
        return run(self._ask(block_on, self.backend.identify))

    async def afingerprint(self) -> Fingerprint:
        """`fingerprint` for a running event loop."""
        return await self._ask(await_on, self.backend.identify)

    def tokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """The token ids of a prompt, by the tokenizer of the model that would answer it.

        A string is tokenized as it is; a list of messages as the chat that `generate` would send
        with the same options, including the chat template. Raises InvalidRequestError if the
        backend cannot tokenize.
        """
        return run(self._tokenize(block_on, prompt, options))

    async def atokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """`tokenize` for a running event loop."""
        return await self._tokenize(await_on, prompt, options)

    def detokenize(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; raises InvalidRequestError if the backend cannot tokenize."""
        return run(self._detokenize(block_on, token_ids))

    async def adetokenize(self, token_ids: Iterable[int]) -> str:
        """`detokenize` for a running event loop."""
        return await self._detokenize(await_on, token_ids)

    # ---- the same calls, written once for sync and async callers

    async def _generate(
        self,
        wait: Wait,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object,
        options: Options,
    ) -> list[LLMOutput]:
        results = await self._results(wait, prompts, sampling_params, options)
        if any(not result.ok for result in results):
            raise BatchError(results)
        return [result.unwrap() for result in results]

    async def _results(
        self,
        wait: Wait,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object,
        options: Options,
    ) -> list[Result]:
        wanted = CallOptions(**options) if options else NO_OPTIONS
        listed = as_prompts(prompts)
        sampling = as_sampling(sampling_params, len(listed))
        started, jobs_of = monotonic(), self._job_maker(wanted)
        # Made one by one as they are sent, so that many requests do not fill the memory.
        jobs = (
            jobs_of.make(prompt, params, place)
            for place, (prompt, params) in enumerate(zip(listed, sampling, strict=True))
        )
        work = results_of(jobs_of.begin, jobs, len(listed), self.backend.concurrency)
        results: list[Result] = await wait(background().submit(work))
        log_batch(self.backend.account, wanted.step_id, results, monotonic() - started)
        return results

    def _windowed(
        self,
        wait: Wait,
        prompts: Iterable[Prompt] | AsyncIterable[Prompt],
        sampling_params: object,
        window: int | None,
        options: Options,
    ) -> AsyncGenerator[Result, None]:
        wanted = CallOptions(**options) if options else NO_OPTIONS
        (params,) = as_sampling(sampling_params, 1)
        size = as_window(window, self.backend.window)
        loop, jobs_of = background(), self._job_maker(wanted)

        def job(prompt: Prompt, place: int) -> Job:
            return jobs_of.make(prompt, params, place)

        def worker() -> Callable[[Job], Awaitable[Result]]:
            jobs_of.begin()
            return operator.call

        def queue() -> JobQueue[Job, Result]:
            workers, wakeup = min(size, self.backend.concurrency), wait.wakeup(loop.loop)
            return JobQueue(loop, worker, workers, wakeup, in_order=True)

        return results_in_window(prompt_source(prompts), job, queue, size)

    async def _stream(
        self, wait: Wait, prompt: Prompt, sampling_params: object, options: Options
    ) -> AsyncGenerator[Delta, None]:
        (params,) = as_sampling(sampling_params, 1)
        wanted = CallOptions(**options) if options else NO_OPTIONS
        loop = background()
        channel: Channel[Delta] = Channel(wait.wakeup(loop.loop), MAX_QUEUED)
        read = self._stream_reader(channel, prompt, params, wanted)
        try:
            channel.start(loop, read)
            while deltas := await channel.take():
                for delta in deltas:
                    yield delta
        finally:
            channel.close()

    async def _tokenize(self, wait: Wait, prompt: Prompt, options: Options) -> Tokens:
        given = CallOptions(**options)
        wanted = supported(given, self.backend)
        question: str | ChatRequest
        if isinstance(prompt, str):
            if wanted != supported(NO_OPTIONS, self.backend):
                raise InvalidRequestError(
                    "a text is tokenized as it is, without tools or reasoning; give it as a "
                    "message, [{'role': 'user', 'content': ...}], to tokenize it as a chat"
                )
            question = prompt
        else:
            question = build_request(self.config, prompt, SamplingParams(), wanted)
        return await self._ask(wait, lambda connection: self.backend.tokenize(connection, question))

    async def _detokenize(self, wait: Wait, token_ids: Iterable[int]) -> str:
        return await self._ask(
            wait, lambda connection: self.backend.detokenize(connection, token_ids)
        )

    async def _ask(self, wait: Wait, question: Callable[[Connection], Awaitable[T]]) -> T:
        loop, urls = background(), self.backend.urls()

        async def work() -> T:
            try:
                return await question(self.backend.connect(loop, urls))
            except LLMEngineError as error:
                raise detached(error)  # noqa: B904 - it is the same error

        answer: T = await wait(loop.submit(work()))
        return answer

    def _job_maker(self, options: CallOptions) -> JobMaker[Job]:
        """What makes the jobs of a call's prompts."""
        return job_maker(self.backend, options)

    def _stream_reader(
        self,
        deltas: Channel[Delta],
        prompt: Prompt,
        params: SamplingParams,
        options: CallOptions,
    ) -> Callable[[], Awaitable[None]]:
        """A function that reads the streamed answer on the loop and puts it into the channel."""
        reader = StreamReader(self.backend, deltas, prompt, params, options)

        async def read() -> None:
            deltas.end(await reader.read())

        return read

    # ---- closing and pickling

    def close(self) -> None:
        """Release what the engine holds, and forget what it learned about its server."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[EngineConfig, type[Backend]]]:
        return (type(self), (self.config, type(self.backend)))

    if not TYPE_CHECKING:  # type checkers know only the names that are not deprecated

        def __getattr__(self, name: str) -> Any:
            if name in _MOVED_TO_BACKEND:
                warnings.warn(
                    f"Engine.{name} is deprecated; write engine.backend.{name} instead",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(self.backend, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return scrub(f"<{type(self).__name__} {self.name!r} model={self.model!r}>")


def _backend_of(config: EngineSettings) -> type[Backend]:
    kind = load_backend(config.backend)
    if not (isinstance(kind, type) and issubclass(kind, Backend)):
        raise ConfigError(
            f"engine {config.name!r}: backend: {config.backend!r} is {kind!r}, which is not a "
            "subclass of llmengine.backends.base.Backend; see docs/backends.md"
        )
    return kind


class EngineConfig(EngineSettings):
    """The configuration of one engine, from which the engine is made.

    Its fields are those of EngineSettings; docs/library.md explains them too.
    """

    @cached_property
    def engine(self) -> Engine:
        """The engine of this configuration; it is created once, when it is first needed."""
        return Engine(self)

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; the copy has its own engine."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("engine", None)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A deep copy, which has its own engine."""
        copied = type(self).__new__(type(self))
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        state["__dict__"] = {k: v for k, v in state["__dict__"].items() if k != "engine"}
        return state
