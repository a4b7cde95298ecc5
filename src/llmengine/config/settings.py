"""The settings of one engine: backend, model, address, timeouts, price and others."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)

from llmengine.transport.answer_limits import DEFAULT_LIMITS, AnswerLimits
from llmengine.transport.limiter_config import Concurrency, LimiterConfig, as_concurrency
from llmengine.transport.policies import FIRST_WAIT, LONGEST_RETRY_AFTER, LONGEST_WAIT
from llmengine.transport.registry import AUTO, known_transport
from llmengine.types.arguments import checked_fields, suggestion
from llmengine.types.errors import ConfigError, InvalidFieldError
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import as_shown, conceal, register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails


_PRICES = ("input", "output", "cached_input", "gpu_hour")


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of an engine in ``currency``; a price that is left out is unknown, and 0 is free.

    ``input``, ``output`` and ``cached_input`` are per million tokens. If ``cached_input`` is left
    out, cached tokens cost as much as other input tokens. ``gpu_hour`` is the price of one hour
    of the whole server; it replaces the others.
    """

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    gpu_hour: float | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in _PRICES:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                msg = f"price {name!r} is {value!r}; give a number of at least 0"
                raise InvalidFieldError(msg)
        by_tokens = (self.input, self.output) != (None, None)
        if by_tokens == (self.gpu_hour is not None) or (by_tokens and self._is_incomplete):
            msg = "a price is {input: ..., output: ...} for a million tokens, or {gpu_hour: ...}"
            raise InvalidFieldError(msg)

    @property
    def _is_incomplete(self) -> bool:
        return self.input is None or self.output is None

    @classmethod
    def of(cls, value: object) -> Self | None:
        """A Price from a mapping of its fields; a Price or None is returned as it is."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            msg = f"a price is a mapping such as {{gpu_hour: 2.5}}, not {value!r}"
            raise InvalidFieldError(msg)
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(value) - set(known)):
            msg = f"unknown price {unknown[0]!r}; known are {', '.join(known)}"
            raise InvalidFieldError(msg)
        return cls(**value)


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase of a call may take, in seconds; None means no limit.

    ``connect`` is the time to make the connection. ``first_token`` and ``gap`` apply to streams:
    the time until the first generated content, and the time between two pieces of it (keep-alive
    comments do not count). ``total`` starts when the request is sent, not while it waits for its
    turn. ``wait`` is the longest time to wait before one attempt because the server asks for it,
    by ``Retry-After`` or by a 429 for another call. If the server asks for more, the call fails
    at once.
    """

    connect: float | None = 10.0
    first_token: float | None = None
    gap: float | None = None
    total: float | None = 60.0
    wait: float | None = LONGEST_RETRY_AFTER

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and (not number or value <= 0):
                msg = f"timeout {field.name!r} is {value!r}; give seconds above 0, or null for none"
                raise InvalidFieldError(msg)

    @property
    def patience(self) -> float:
        """``wait`` as a number of seconds, which is infinite if there is no limit."""
        return inf if self.wait is None else self.wait

    @classmethod
    def of(cls, value: object) -> Self:
        """Timeouts from a number (the total) or a mapping; Timeouts are returned as they are."""
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            known = [f.name for f in fields(cls)]
            if unknown := sorted(set(value) - set(known)):
                msg = f"unknown clock {unknown[0]!r}; the clocks are {', '.join(known)}"
                raise InvalidFieldError(msg)
            return cls(**value)
        return cls(total=value)  # type: ignore[arg-type]  # __post_init__ checks it


_ENV_PREFIX = "os.environ/"  # litellm's prefix for a key in an environment variable
# Fields that may hold keys, in addition to api_key.
_CONCEALED = ("endpoint", "headers", "extra_body", "options")


class EngineSettings(BaseModel):
    """The fields of an EngineConfig.

    - ``endpoint`` (also ``base_url``, ``api_base``, ``host``) is the server's address, with or
      without ``/v1``. The default depends on the backend.
    - ``api_key_env`` is the name of the environment variable that holds the key.
    - ``timeout`` is the total in seconds, or a mapping of the clocks of Timeouts.
    - ``max_retries`` (also ``num_retries``) is the number of attempts after the first one.
      ``retry_wait`` is the longest wait before the second attempt, in seconds; it doubles with
      each attempt.
    - ``max_concurrency`` is how many calls may run at once. The default depends on the backend.
      "auto" finds how many requests the server should have, by its goodput.
    - ``requests_per_minute`` and ``tokens_per_minute`` limit the requests of all engines with the
      same address and key; they are evenly spaced.
    - ``limiter`` is a LimiterConfig, or a mapping of its fields: limits that engines share.
    - ``weight`` is the engine's part of what it shares with other engines, relative to theirs.
    - ``reasoning`` is a bool or an effort such as "low".
    - ``sampling`` holds defaults, which the parameters of a call override.
    - ``extra_body`` is added to the body of every request as it is.
    - ``structured`` is the first step of calls with an ``output_model``: "json_schema",
      "json_object" or "prompt"; "auto" probes once whether the server enforces schemas.
    - ``price`` is {input, output, cached_input} per million tokens, or {gpu_hour}. If it is left
      out, it is looked up in genai-prices, or is unknown if that is not installed.
    - ``transport`` is "asyncio", "aiohttp", "httpx", "auto" (asyncio, except while aiohttp is
      traced or a client is mocked), or the name of a transport that a package or a project's
      ``conftest.py`` registers.
    - ``cold_start`` is for a server that sleeps while it has no requests: how many seconds it may
      take to wake up. If it is left out, a call to a sleeping server fails.
    - ``limits`` bounds how much of one answer is read, as a mapping of the fields of
      AnswerLimits.

    The repr and the JSON of ``model_dump_json`` never show a key: they mask headers, passwords in
    ``endpoint`` and fields with the name of a key. Pickle keeps keys.
    Raises InvalidFieldError, which names each wrong field.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

    _kind: ClassVar[str] = ""  # the backend, if the class has only one

    name: str = ""
    backend: str
    model: str
    endpoint: str | None = Field(
        default=None, validation_alias=AliasChoices("endpoint", "base_url", "api_base", "host")
    )
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    timeout: Annotated[Timeouts, BeforeValidator(Timeouts.of)] = Timeouts()
    max_retries: int = Field(
        default=3, ge=0, validation_alias=AliasChoices("max_retries", "num_retries")
    )
    retry_wait: float = Field(default=FIRST_WAIT, gt=0, le=LONGEST_WAIT)
    max_concurrency: Annotated[Concurrency, BeforeValidator(as_concurrency)] = None
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    limiter: Annotated[LimiterConfig | None, BeforeValidator(LimiterConfig.of)] = None
    weight: float = Field(default=1.0, gt=0)
    reasoning: bool | str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    sampling: Annotated[
        SamplingParams,
        BeforeValidator(SamplingParams.of),
        PlainSerializer(lambda s: s.given(), return_type=dict),
    ] = SamplingParams()
    price: Annotated[Price | None, BeforeValidator(Price.of)] = None
    structured: Literal["auto", "json_schema", "json_object", "prompt"] = "auto"
    transport: Annotated[str, AfterValidator(known_transport)] = AUTO
    cold_start: float | None = Field(None, gt=0)
    limits: Annotated[AnswerLimits, BeforeValidator(AnswerLimits.of)] = DEFAULT_LIMITS
    options: dict[str, Any] = Field(default_factory=dict)

    if not TYPE_CHECKING:  # type checkers know the fields by their annotations

        def __init__(self, *args: object, **fields: object) -> None:
            """Raise one-line errors; those of pydantic would show the values, including keys."""
            if args:
                msg = (
                    "EngineConfig takes its fields by name, such as "
                    "EngineConfig(backend='openai_compatible', model=..., endpoint=...)"
                )
                raise InvalidFieldError(msg)
            # Keys are hidden before pydantic sees them, because tools that report errors show the
            # local variables of its frames.
            fields = conceal(fields)
            try:
                super().__init__(**fields)
            except ValidationError as error:
                where = f"engine {fields.get('name') or fields.get('backend') or self._kind!r}"
                raise InvalidFieldError(problems(where, error, type(self))) from None

        # Without this, pydantic would also call __init__ for nested models and `model_validate`,
        # whose callers expect pydantic's own ValidationError.
        __init__.__pydantic_base_init__ = True

    @model_validator(mode="before")
    @classmethod
    def _concealed_input(cls, data: object) -> object:
        data = conceal(data)  # before anything can fail, because errors quote their input
        if isinstance(data, dict) and "enable_reasoning" in data:
            import warnings  # noqa: PLC0415 - rare path

            warnings.warn(
                "enable_reasoning is deprecated; write reasoning instead",
                DeprecationWarning,
                stacklevel=3,
            )
            data = dict(data)
            data.setdefault("reasoning", data.pop("enable_reasoning"))
        return data

    @model_validator(mode="after")
    def _one_place_for_rates(self) -> Self:
        for name in ("requests_per_minute", "tokens_per_minute"):
            if self.limiter is not None and getattr(self, name) is not None:
                msg = f"{name} and limiter are both given; set {name} in the limiter"
                raise ValueError(msg)
        return self

    def model_post_init(self, _context: object, /) -> None:
        """Name an unnamed engine after its backend, and register its keys as secrets."""
        if not self.name:
            object.__setattr__(self, "name", self.backend)
        if self.api_key is not None:
            register(self.api_key.get_secret_value())
        # Again after validation, because pydantic turns Secrets into plain strings.
        for field in _CONCEALED:
            object.__setattr__(self, field, conceal(getattr(self, field), field))

    @field_serializer(*_CONCEALED, when_used="json")
    def _masked(self, value: object) -> object:
        return as_shown(value)

    @property
    def key_variable(self) -> str | None:
        """The environment variable of the key, from ``api_key_env`` or ``os.environ/NAME``."""
        literal = self._literal_key
        from_prefix = literal.removeprefix(_ENV_PREFIX) if literal.startswith(_ENV_PREFIX) else None
        return self.api_key_env or from_prefix

    @property
    def _literal_key(self) -> str:
        return self.api_key.get_secret_value() if self.api_key is not None else ""

    def resolve_key(self) -> str | None:
        """The key as text, from the configuration or the environment; None if neither has one.

        Raises ConfigError, which names the engine and the variable, if the variable is not set.
        """
        variable = self.key_variable
        if variable is None:
            return self._literal_key or None
        key = os.environ.get(variable)
        if not key:
            msg = (
                f"engine {self.name!r}: api_key_env: the environment variable {variable} is not "
                f"set; export {variable}=... or remove api_key_env"
            )
            raise ConfigError(msg)
        register(key)
        return key

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed."""
        copied = super().model_copy(update=update, deep=deep)
        copied.model_post_init(None)
        return copied

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.model_post_init(None)  # its keys are not registered in this process yet


_OTHER_NAMES = ("base_url", "api_base", "host", "num_retries")


def problems(where: str, error: ValidationError, kind: type[EngineSettings]) -> str:
    """What is wrong with the fields of an engine, without their values, which may be keys."""
    known = [*kind.model_fields, *_OTHER_NAMES]
    entries = error.errors(include_input=False)
    return "; ".join(f"{where}: {_problem(entry, known)}" for entry in entries)


def _problem(error: ErrorDetails, known: Sequence[str]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])  # without the field that it is in
        return f"{field}: is not a field of an engine; {suggestion(name, known)}"
    if error["type"] == "missing":
        return f"{field}: is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
