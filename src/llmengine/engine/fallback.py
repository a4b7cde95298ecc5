"""An engine made of engines: if one of them fails, the next one is asked.

The same happens if the answer is not accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property, partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_serializer, model_validator

from llmengine.backends.base import Backend
from llmengine.config.backends import FALLBACK
from llmengine.engine.engine import Engine, EngineConfig
from llmengine.engine.fallback_router import AnswerKind, ErrorKind, FallbackRouter, Rejects, name_of
from llmengine.engine.hedge import HedgePolicy, StreamChoice
from llmengine.engine.results import JobMaker, job_maker
from llmengine.engine.stream import StreamReader
from llmengine.telemetry.pricing import DEFAULT_CURRENCY
from llmengine.telemetry.usage import Who
from llmengine.types.arguments import suggestion
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from llmengine.dialects.base import Dialect
    from llmengine.engine.channel import Channel
    from llmengine.engine.options import CallOptions
    from llmengine.engine.results import Job
    from llmengine.telemetry.pricing import Tariff
    from llmengine.transport.limiter_config import LimiterState
    from llmengine.types.outputs import Delta
    from llmengine.types.request import Capability, Prompt
    from llmengine.types.sampling import SamplingParams


_LEAST = 2
_PERCENTILE = re.compile(r"p[1-9]\d?")
DEFAULT_ERRORS: tuple[ErrorKind, ...] = (
    "connection",
    "timeout",
    "rate_limit",
    "server",
    "response",
)


def _configs(value: object) -> object:
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or any(isinstance(one, Engine) for one in value)
    ):
        raise ValueError("give a list of EngineConfig; that of an engine is its .config")
    return value


def _checked_engines(configs: tuple[EngineConfig, ...]) -> tuple[EngineConfig, ...]:
    names = [config.name for config in configs]
    if len(names) < _LEAST:
        raise ValueError(f"a fallback is made of at least two engines, not of {len(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"give the engines different names, not {', '.join(map(repr, names))}")
    for config in configs:
        if config.backend == FALLBACK:
            raise ValueError(f"{config.name!r} is a fallback too; list its engines instead")
    return configs


def _errors(value: object) -> object:
    for one in _listed(value, "[connection, timeout]"):
        if one not in get_args(ErrorKind):
            raise ValueError(f"{one!r} is not a kind of error; {_advice(one, ErrorKind)}")
    return value


def _answers(value: object) -> object:
    for one in _listed(value, "[refusal, length]"):
        if iscoroutinefunction(one):
            raise ValueError(f"{one.__name__} is a coroutine function; give a plain function")
        if not callable(one) and one not in get_args(AnswerKind):
            raise ValueError(f"{one!r} is not a kind of answer; {_advice(one, AnswerKind)}")
    return value


def _hedge_after(value: object) -> object:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    percentile = isinstance(value, str) and _PERCENTILE.fullmatch(value)
    if value is not None and not number and not percentile:
        raise ValueError(
            f"is {value!r}; give a number of seconds above 0, or a percentile such as 'p95'"
        )
    return value


def _listed(value: object, example: str) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"is {value!r}; give a list such as {example}")  # noqa: TRY004
    return value


def _advice(name: object, kinds: object) -> str:
    return suggestion(str(name), get_args(kinds))


class FallbackConfig(EngineConfig):
    """The configuration of an engine that is made of engines.

    - ``engines`` are the configurations of at least two engines, which have different names.
    - ``order`` is the order in which a prompt is given to them: "given", or "weighted", with which
      the first one is another for each prompt, in proportion to the engines' ``weight``.
    - ``errors`` are the kinds of errors after which the next engine is asked: "connection",
      "timeout", "rate_limit", "quota", "server", "response" (an answer that cannot be read),
      "context_length", "bad_request", "authentication" and "not_found".
    - ``answers`` are the kinds of answers after which the next engine is asked: "refusal",
      "length" (it was cut), "schema" (it does not fit the ``output_model``) and "empty"; or
      functions that get the LLMOutput and return whether the next engine is asked.
    - ``hedge_after`` is the number of seconds after which a prompt that is not answered is given to
      the next engine too, or a percentile of the times of the last answers, such as "p95". The
      answer that comes first is used, and the other call is cancelled. For a stream, it is the time
      until its first content that counts.
    - ``hedge_budget`` is the largest share of the prompts for which this is done.

    All other fields are set at the engines. Raises InvalidFieldError, which names each wrong field.
    """

    _kind: ClassVar[str] = FALLBACK

    backend: Literal["fallback"] = FALLBACK
    model: str = ""
    engines: Annotated[
        tuple[EngineConfig, ...], BeforeValidator(_configs), AfterValidator(_checked_engines)
    ]
    order: Literal["given", "weighted"] = "given"
    errors: Annotated[tuple[ErrorKind, ...], BeforeValidator(_errors)] = DEFAULT_ERRORS
    answers: Annotated[tuple[AnswerKind | Rejects, ...], BeforeValidator(_answers)] = ()
    hedge_after: Annotated[float | str | None, BeforeValidator(_hedge_after)] = None
    hedge_budget: float = Field(default=0.05, gt=0, le=1)

    @field_serializer("answers", when_used="json")
    def _names(self, answers: tuple[AnswerKind | Rejects, ...]) -> list[str]:
        return [one if isinstance(one, str) else name_of(one) for one in answers]

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for name, field in EngineConfig.model_fields.items():
            if name not in {"name", "backend", "model"} and (
                getattr(self, name) != field.get_default(call_default_factory=True)
            ):
                raise ValueError(f"{name}: a fallback has none of its own; set it at its engines")
        if self.hedge_after is None and "hedge_budget" in self.model_fields_set:
            raise ValueError("hedge_budget: has no effect without hedge_after; give both")
        models = ", ".join(dict.fromkeys(config.model for config in self.engines))
        if self.model not in {"", models}:
            raise ValueError("model: a fallback has none of its own; set it at its engines")
        object.__setattr__(self, "model", models)
        return self

    @cached_property
    def engine(self) -> FallbackEngine:
        """The engine of this configuration; it is created once, when it is first needed."""
        return FallbackEngine(self)

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; they are checked like those of a new configuration."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"model"}}
        copied = type(self)(**{**given, **(update or {})})
        return deepcopy(copied) if deep else copied


class FallbackBackend(Backend):
    """Has the backends of a fallback's engines; it has no server of its own.

    Whatever needs the address of a server raises ConfigError.
    """

    config: FallbackConfig
    name = FALLBACK
    in_process = True  # it has no address, as a model in this process has none
    tariff: Tariff | None = None

    def __init__(self, config: FallbackConfig) -> None:
        if not isinstance(config, FallbackConfig):
            raise ConfigError(
                f"engine {config.name!r}: a fallback has further fields; make it by "
                "FallbackConfig(engines=[...])"
            )
        super().__init__(config)
        self.backends = [one.engine.backend for one in config.engines]
        after = config.hedge_after
        hedge = None if after is None else HedgePolicy(after, config.hedge_budget)
        self.router = self.new_router(hedge)

    def new_router(self, hedge: HedgePolicy | None = None) -> FallbackRouter:
        """A router for its engines, which knows nothing of their health yet."""
        answers = self.config.answers
        return FallbackRouter(
            self.backends,
            frozenset({*self.config.errors, *(one for one in answers if isinstance(one, str))}),
            [one for one in answers if not isinstance(one, str)],
            hedge,
            weighted=self.config.order == "weighted",
        )

    if not TYPE_CHECKING:  # for type checkers, these are attributes of a Backend

        @property
        def dialect(self) -> Dialect:
            """Raises ConfigError, because there is no server of its own."""
            raise self._no_server()

        @property
        def capabilities(self) -> frozenset[Capability]:
            """What all of its engines can do."""
            return frozenset.intersection(*(backend.capabilities for backend in self.backends))

    @property
    def endpoint(self) -> str:
        """Raises ConfigError, because there is no server of its own."""
        raise self._no_server()

    def limits(self) -> LimiterState | None:
        """Raises ConfigError, because there is no server of its own."""
        raise self._no_server()

    @property
    def concurrency(self) -> int:
        """How many calls may be under way at once: as many as its engines may have together."""
        return sum(backend.concurrency for backend in self.backends)

    @cached_property
    def account(self) -> Who:
        """The name for the log; the usage is counted in the accounts of the engines."""
        currencies = {one.tariff.currency for one in self.backends if one.tariff is not None}
        currency = currencies.pop() if len(currencies) == 1 else DEFAULT_CURRENCY
        return Who(self.config.name, self.config.model, currency)

    def close(self) -> None:
        """Close its engines."""
        for backend in self.backends:
            backend.close()

    def _no_server(self) -> ConfigError:
        names = ", ".join(repr(backend.config.name) for backend in self.backends)
        return ConfigError(
            f"engine {self.config.name!r} is a fallback, which has no server of its own; use one "
            f"of its engines: {names}"
        )


class FallbackEngine(Engine):
    """An engine that gives each prompt to one engine after another until one answers."""

    config: FallbackConfig
    backend: FallbackBackend

    def __init__(self, config: FallbackConfig, backend: type[Backend] = FallbackBackend) -> None:
        super().__init__(config, backend)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of which it is made."""
        return tuple(config.engine for config in self.config.engines)

    def _job_maker(self, options: CallOptions) -> JobMaker[Job]:
        router = self.backend.router
        makers = [job_maker(backend, options) for backend in self.backend.backends]

        def job(prompt: Prompt, params: SamplingParams, place: int) -> Job:
            make_jobs = [partial(maker.make, prompt, params, place) for maker in makers]
            return partial(router.result, make_jobs)

        def begin() -> None:
            for maker in makers:
                maker.begin()

        return JobMaker(begin, job)

    def _stream_reader(
        self,
        deltas: Channel[Delta],
        prompt: Prompt,
        params: SamplingParams,
        options: CallOptions,
    ) -> Callable[[], Awaitable[None]]:
        router, choice = self.backend.router, StreamChoice(deltas)
        readers = [
            StreamReader(backend, choice.sink(place), prompt, params, options)
            for place, backend in enumerate(self.backend.backends)
        ]

        async def read() -> None:
            deltas.end(await router.stream(readers, choice))

        return read
