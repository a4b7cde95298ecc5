"""The engine: the client of one model behind one server.

An engine is made of three layers: its resolved configuration (which server, key and headers), the
questions about the server itself (fingerprint, tokens), and the calls that answer prompts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar, Unpack, cast
from urllib.parse import urlsplit

from pydantic_core import to_json

from llmengine.config.resolve import (
    ENVIRONMENT,
    Names,
    base_of,
    basic,
    basic_auth,
    checked_header,
    checked_key,
    locate,
    normal_endpoint,
    plain,
    root_of,
    with_query,
)
from llmengine.dialects.errors import refuses_reasoning
from llmengine.dialects.streaming import is_off
from llmengine.engine.call import Call, run_batch, run_job, run_window
from llmengine.engine.options import (
    CallOptions,
    as_prompts,
    as_sampling,
    as_window,
    build_request,
    drawn_prompts,
)
from llmengine.engine.server_info import fingerprint_of
from llmengine.engine.stream import End, StreamReader
from llmengine.engine.sync import await_on, block_on, iterate, run
from llmengine.telemetry.pricing import tariff_of
from llmengine.telemetry.usage import log_batch
from llmengine.transport.loop import background
from llmengine.types.errors import (
    ConfigError,
    InvalidRequestError,
    LLMEngineError,
    detached,
)
from llmengine.types.request import Capability
from llmengine.types.results import BatchError
from llmengine.types.secrets import Secret, register, scrub, secret_address

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
    from concurrent.futures import Future

    from llmengine.config.engine import EngineConfig, Timeouts
    from llmengine.dialects.base import Dialect
    from llmengine.engine.options import Options
    from llmengine.engine.sync import Wait
    from llmengine.telemetry.pricing import Tariff
    from llmengine.transport.base import Outgoing
    from llmengine.transport.loop import Background
    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Delta, Fingerprint, LLMOutput, Tokens
    from llmengine.types.request import ChatRequest, Prompt
    from llmengine.types.results import Result
    from llmengine.types.sampling import SamplingParams


log = logging.getLogger("llmengine")
T = TypeVar("T")


class Configured:
    """The resolved configuration of an engine: its name, model, address, key and headers.

    A backend sets the class attributes: the dialect that its server speaks, its capabilities, its
    default address, the environment variables that set another address (the first one that is set
    wins) and the variable that holds the key. ``endpoint_keys`` names the key's variable for an
    address variable that does not belong to ``key_env``. ``version_path`` is a route under the
    root that answers ``{"version": ...}``. ``trusts_schema`` says that the server is known to
    enforce JSON schemas, so that no probe is needed. ``schema_dialect`` is "openai_strict" if the
    server takes no other schemas. ``in_process`` says that there is no server: the model runs in
    this process, without a connection. ``default_concurrency`` is how many calls the server gets
    at once if the configuration does not say. ``queues_calls`` says that the server answers a few
    calls at a time and lets the others wait: a call that ran out of time there is sent again, with
    fewer calls at once.
    """

    backend: ClassVar[str]
    default_endpoint: ClassVar[str | None] = None
    default_port: ClassVar[int | None] = None
    endpoint_env: ClassVar[tuple[str, ...]] = ()
    key_env: ClassVar[str | None] = None
    endpoint_keys: ClassVar[Mapping[str, str | None]] = {}
    version_path: ClassVar[str | None] = None
    capabilities: ClassVar[frozenset[Capability]]
    dialect: Dialect
    trusts_schema: bool = False
    schema_dialect: ClassVar[Literal["plain", "openai_strict"]] = "plain"
    in_process: ClassVar[bool] = False
    default_concurrency: ClassVar[int] = 64
    queues_calls: ClassVar[bool] = False
    _told = False  # whether the warning that reasoning was left out was logged
    _told_unread = False  # whether the warning about unreadable parts was logged
    _refuses_reasoning = False  # whether the server refused reasoning for the model

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._place = locate(config, self.variables(), [ENVIRONMENT])
        key = checked_key(self.name, config.resolve_key() or self._place.key)
        self._key = Secret(key) if key else None
        if self._key:
            register(self._key)
        for name, value in config.headers.items():
            checked_header(self.name, name, value)
        self.own_headers = self._own_headers()
        self.headers = self._headers()
        keys = {(k.lower(), v) for k, v in self.headers.items() if isinstance(v, Secret)}
        self.credential = hash(frozenset(keys))  # tells keys apart without keeping a key

    @classmethod
    def variables(cls) -> Names:
        """The variables that hold the address and the key of a server of this backend."""
        pairs = tuple((v, cls.endpoint_keys.get(v, cls.key_env)) for v in cls.endpoint_env)
        return Names(pairs, cls.default_endpoint, cls.key_env, cls.default_port)

    @property
    def name(self) -> str:
        """The engine's name, as configured."""
        return self.config.name

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.config.model

    @property
    def concurrency(self) -> int:
        """How many calls of this engine may be under way at once."""
        return self.config.max_concurrency or self.default_concurrency

    @property
    def window(self) -> int:
        """How many calls `iter_results` starts ahead of its reader."""
        return 2 * self.concurrency

    @property
    def clocks(self) -> Timeouts:
        """How long each phase of a call may take."""
        return self.config.timeout

    @property
    def endpoint(self) -> str:
        """The configured address in its normal form; raises ConfigError if there is none.

        It may hold a user, a password and a query string, so it must not be shown.
        """
        endpoint = self._place.endpoint
        if not endpoint:
            msg = (
                f"engine {self.name!r}: endpoint: backend {self.backend!r} has no default; "
                "give the server's address, such as http://127.0.0.1:8000/v1"
            )
            raise ConfigError(msg)
        return normal_endpoint(endpoint, default_port=self.default_port)

    @property
    def base_url(self) -> str:
        """The address for an OpenAI SDK, which ends in ``/v1``."""
        return base_of(plain(self.endpoint))

    @property
    def root_url(self) -> str:
        """The server's address without ``/v1``."""
        return root_of(plain(self.endpoint))

    @property
    def url(self) -> str:
        """The URL of this engine's own requests, without the endpoint's query string."""
        return secret_address(self.base_url + self.dialect.path)

    @property
    def query(self) -> str:
        """The endpoint's query string, such as ``api-version=1``, which every request carries."""
        return urlsplit(self._place.endpoint or "").query

    def sent_to(self, url: str) -> str:
        """The given URL of this server with the endpoint's query string added."""
        return with_query(url, self.query)

    @cached_property
    def tariff(self) -> Tariff:
        """How the calls of this engine are priced."""
        return tariff_of(self.config.price, self.url, self.model)

    @property
    def api_key(self) -> str | None:
        """The key in plain text, to be passed to another client of the same server."""
        return self._key

    @property
    def key_advice(self) -> str:
        """What a user can do about a refused key."""
        if self._key:
            return f"the key of engine {self.name!r} was sent and not accepted"
        if held := [v for v in self.variables().keys if ENVIRONMENT.get(v)]:
            return (
                f"{held[0]} is set, but for another address than that of engine {self.name!r}: "
                f"set its api_key_env to {held[0]} if the key is meant for it"
            )
        return f"engine {self.name!r} has no key: set api_key_env to the variable that holds it"

    def _asked(self, options: Options) -> CallOptions:
        """The call's options, without reasoning if the backend has none; that is logged once."""
        asked = CallOptions(**options)
        wanted = self.config.reasoning if asked.reasoning is None else asked.reasoning
        if Capability.REASONING in self.capabilities:
            return replace(asked, reasoning=wanted)
        if wanted and not is_off(wanted):
            self._tell_once(f"backend {self.backend!r}", wanted)
        # If reasoning is not wanted, no part of the answer's text is read as reasoning.
        return replace(asked, reasoning=False if is_off(wanted) else None)

    def tell_unread(self, warnings: tuple[str, ...]) -> None:
        """Log, once per engine, what the server sent beside an answer that cannot be read."""
        if warnings and not self._told_unread:
            self._told_unread = True
            log.warning("engine %r: %s", self.name, "; ".join(warnings))

    def without_refused_reasoning(self, request: ChatRequest) -> ChatRequest:
        """The request, without reasoning if the server has refused it for this model."""
        if self._refuses_reasoning and request.reasoning is not None:
            return replace(request, reasoning=None)
        return request

    def notes_refused_reasoning(self, request: ChatRequest, error: CallError) -> bool:
        """Whether the refusal says that the model does not reason; if so, it is remembered."""
        if request.reasoning is None or error.final or not refuses_reasoning(error):
            return False
        self._refuses_reasoning = True
        if request.reasoning not in {False, "none"}:
            self._tell_once(f"model {self.model!r}", request.reasoning)
        return True

    def _tell_once(self, who: str, wanted: bool | str) -> None:
        if self._told:
            return
        self._told = True
        log.warning(
            "engine %r: %s has no reasoning; what was asked for (%r) is left out",
            self.name,
            who,
            wanted,
        )

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": Secret(f"Bearer {self._key}")} if self._key else {}
        fixed = {"Content-Type": "application/json", "User-Agent": "llmengine"}
        return {**fixed, **key, **self.own_headers}

    def _own_headers(self) -> dict[str, str]:
        """The configured headers, with the user and password of the endpoint as one of them."""
        given = dict(self.config.headers)
        user = basic_auth(self._place.endpoint or "")
        if user is None:
            return given
        if self._key or any(name.lower() == "authorization" for name in given):
            raise ConfigError(
                f"engine {self.name!r}: endpoint: it holds a user and a password beside a key or "
                "an Authorization header, and a request can carry one of them; take one out"
            )
        return {"Authorization": basic(*user)} | given

    def __repr__(self) -> str:
        return scrub(f"<{type(self).__name__} {self.name!r} model={self.model!r}>")


class Tokenizer(Protocol):
    """How to ask a kind of server to tokenize and detokenize."""

    async def tokenize(self, call: Call, prompt: Prompt, options: CallOptions) -> Tokens:
        """The tokens of a text as it is, or of messages as a chat with these options."""
        ...

    async def detokenize(self, call: Call, token_ids: Iterable[int]) -> str:
        """The text of token ids."""
        ...


class Inquiries(Configured):
    """The questions that an engine asks about the server itself; answers are not cached.

    A backend whose server can be asked for tokens sets ``tokenizer``.
    """

    tokenizer: ClassVar[Tokenizer | None] = None

    def fingerprint(self) -> Fingerprint:
        """The identity of the server: its version, its served model, and what it reports of them.

        Raises the CallError of a server that cannot be asked or refuses the key.
        """
        return run(self._aside(block_on, self.identified))

    async def afingerprint(self) -> Fingerprint:
        """`fingerprint` for a running event loop."""
        return await self._aside(await_on, self.identified)

    def tokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """The token ids of a prompt, by the tokenizer of the model that would answer it.

        A string is tokenized as it is; a list of messages as the chat that `generate` would send
        with the same options, including the chat template. Raises InvalidRequestError if the
        backend has no tokenizer that can be asked.
        """
        work = self._tokenizer.tokenize
        return run(self._aside(block_on, lambda c: work(c, prompt, self._asked(options))))

    async def atokenize(self, prompt: Prompt, **options: Unpack[Options]) -> Tokens:
        """`tokenize` for a running event loop."""
        work = self._tokenizer.tokenize
        return await self._aside(await_on, lambda c: work(c, prompt, self._asked(options)))

    def detokenize(self, token_ids: Iterable[int]) -> str:
        """The text of token ids; raises InvalidRequestError if the backend has no tokenizer."""
        work = self._tokenizer.detokenize
        return run(self._aside(block_on, lambda c: work(c, token_ids)))

    async def adetokenize(self, token_ids: Iterable[int]) -> str:
        """`detokenize` for a running event loop."""
        work = self._tokenizer.detokenize
        return await self._aside(await_on, lambda c: work(c, token_ids))

    async def identified(self, call: Call) -> Fingerprint:
        """`fingerprint`, on the background loop; a backend that knows more overrides this."""
        return await fingerprint_of(call)

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise InvalidRequestError(
                f"engine {self.name!r}: backend {self.backend!r} has no tokenizer that can be "
                "asked; vllm_api has"
            )
        return self.tokenizer

    async def _aside(self, wait: Wait, ask: Callable[[Call], Awaitable[T]]) -> T:
        engine = cast("Engine", self)  # only engines are made from this class
        loop, url, origin = background(), self.url, self.root_url

        async def asked() -> T:
            try:
                return await ask(Call(engine, loop, url, origin))
            except LLMEngineError as error:
                raise detached(error)  # noqa: B904 - it is the same error

        answer: T = await wait(loop.submit(asked()))
        return answer


class Engine(Inquiries):
    """A client of one model behind one server; apart from caches, it holds only configuration.

    An engine may be shared between threads, used in a running event loop and after a fork, and
    pickled. A backend is a subclass that says which dialect its server speaks and where it is.

    The keyword options of all calls are the fields of CallOptions.
    """

    # ---- calls

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: object = None,
        **options: Unpack[Options],
    ) -> list[LLMOutput]:
        """One output per prompt, in order; a prompt is a string or a list of messages.

        ``sampling_params`` is one SamplingParams (this library's or vLLM's), or a list with one
        per prompt. Raises BatchError, which carries every result, if any prompt failed for good.
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
        yet read (the engine's own ``window`` if left out).
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

    # ---- the same calls, written once for sync and async callers

    async def _generate(
        self, wait: Wait, prompts: Any, sampling_params: object, options: Options
    ) -> list[LLMOutput]:
        results = await self._results(wait, prompts, sampling_params, options)
        if any(not result.ok for result in results):
            raise BatchError(results)
        return [result.unwrap() for result in results]

    async def _results(
        self, wait: Wait, prompts: Any, sampling_params: object, options: Options
    ) -> list[Result]:
        asked = self._asked(options)
        listed = as_prompts(prompts)
        sampling = as_sampling(sampling_params, len(listed))
        jobs = [
            self._job(prompt, params, asked, place)
            for place, (prompt, params) in enumerate(zip(listed, sampling, strict=True))
        ]
        loop, started = background(), monotonic()
        work = _batch(self, loop, self.url, self.root_url, jobs)
        results: list[Result] = await wait(loop.submit(work))
        log_batch(self, asked.step_id, results, monotonic() - started)
        return results

    def _windowed(
        self,
        wait: Wait,
        prompts: Any,
        sampling_params: object,
        window: int | None,
        options: Options,
    ) -> AsyncGenerator[Result, None]:
        asked = self._asked(options)
        (params,) = as_sampling(sampling_params, 1)
        loop, url, origin = background(), self.url, self.root_url

        def start(prompt: Prompt, place: int) -> Future[Result]:
            job = self._job(prompt, params, asked, place)
            return loop.submit(_single(self, loop, url, origin, job))

        size = as_window(window, self.window)
        return run_window(drawn_prompts(prompts), start, wait, size)

    async def _stream(
        self, wait: Wait, prompt: Prompt, sampling_params: object, options: Options
    ) -> AsyncGenerator[Delta, None]:
        (params,) = as_sampling(sampling_params, 1)
        request = build_request(self.config, prompt, params, self._asked(options), stream=True)
        loop = background()
        pump = StreamReader(self, request)
        running = loop.submit(pump.run(loop, self.url, self.root_url))
        try:
            while True:
                for item in await wait(loop.submit(pump.take())):
                    if not isinstance(item, End):
                        yield item
                    elif item.error is not None:
                        raise item.error
                    else:
                        return
        finally:
            running.cancel()

    def _job(
        self, prompt: Prompt, params: SamplingParams, options: CallOptions, place: int
    ) -> ChatRequest | LLMEngineError:
        try:
            return build_request(self.config, prompt, params, options, index=place)
        except InvalidRequestError as error:
            return error

    # ---- one request

    async def ready(self, call: Call) -> None:
        """Wait until the engine can be asked; the wait does not count against time limits.

        By default the server is assumed to be running. Called on the loop, before each attempt.
        """

    def outgoing(self, call: Call, request: ChatRequest) -> Outgoing:
        """The request, encoded and ready to send; a backend that sends differently overrides this.

        Called on the loop. Raises InvalidRequestError if the request cannot be expressed in the
        server's API.
        """
        if Capability.REASONING not in self.capabilities:
            request = replace(request, reasoning=None)
        return call.raw(to_json(self.dialect.encode(request)))

    async def check_answer(self, call: Call, request: ChatRequest, output: LLMOutput) -> None:
        """Raise a CallError if other information from the server shows that the answer is wrong.

        Called on the loop, after each answer that could be read.
        """

    async def explain(self, call: Call, error: CallError) -> None:
        """Add to an error what the server can tell about it. Called on the loop."""

    # ---- closing and pickling

    def close(self) -> None:
        """Release what the engine holds; a client of a server holds nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.config,))


# A Call is made on the loop. The addresses are found before that, because finding them may start
# a server.


async def _batch(
    engine: Engine,
    loop: Background,
    url: str,
    origin: str,
    jobs: list[ChatRequest | LLMEngineError],
) -> list[Result]:
    return await run_batch(Call(engine, loop, url, origin), jobs)


async def _single(
    engine: Engine, loop: Background, url: str, origin: str, job: ChatRequest | LLMEngineError
) -> Result:
    return await run_job(Call(engine, loop, url, origin), job)
