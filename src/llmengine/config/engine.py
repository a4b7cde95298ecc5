"""What an engine costs: by the token, or by the hour.

The clocks of a call.

One engine as a value: which backend, which model, where, and how to treat it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
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

from llmengine.config.backends import load_backend
from llmengine.transport.answer_limits import DEFAULT_LIMITS, AnswerLimits
from llmengine.transport.policies import FIRST_WAIT, LONGEST_RETRY_AFTER, LONGEST_WAIT
from llmengine.types.arguments import checked_fields, suggestion
from llmengine.types.errors import ConfigError, InvalidFieldError
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import as_shown, conceal, register

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine


_NUMBERS = ("input", "output", "cached_input", "gpu_hour")


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of an engine in ``currency``; a number that is left out is not known, 0 is free.

    ``input``, ``output`` and ``cached_input`` are for a million tokens; cached tokens cost as much
    as others where ``cached_input`` is left out. ``gpu_hour`` is for an hour of the whole server,
    and is instead of the others.
    """

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    gpu_hour: float | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                msg = f"price {name!r} is {value!r}; give a number of at least 0"
                raise InvalidFieldError(msg)
        by_tokens = (self.input, self.output) != (None, None)
        if by_tokens == (self.gpu_hour is not None) or (by_tokens and self._incomplete):
            msg = "a price is {input: ..., output: ...} for a million tokens, or {gpu_hour: ...}"
            raise InvalidFieldError(msg)

    @property
    def _incomplete(self) -> bool:
        return self.input is None or self.output is None

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """A price from a mapping of its fields, or a price or None as it is."""
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
    """How long each phase of a call may take, in seconds; None never ends it.

    ``connect`` is for the connection. ``first_token`` and ``gap`` hold for streams: until the
    first generated content, and between two pieces of it (keep-alive comments do not count).
    ``total`` starts when the request is sent, not while it waits for its turn. ``wait`` is how
    long a call waits before one attempt because the server asks for it: for its own
    ``Retry-After``, and for the pause after a 429 to another call. A server that asks for longer
    ends the call at once.
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

    @classmethod
    def of(cls, value: Any) -> Self:
        """Timeouts from a number (the total), a mapping of clocks, or timeouts as they are."""
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            known = [f.name for f in fields(cls)]
            if unknown := sorted(set(value) - set(known)):
                msg = f"unknown clock {unknown[0]!r}; the clocks are {', '.join(known)}"
                raise InvalidFieldError(msg)
            return cls(**value)
        return cls(total=value)


_ENV_PREFIX = "os.environ/"  # litellm's spelling of a key that the environment holds
# Fields that may hold keys, beside api_key.
_CONCEALED = ("endpoint", "headers", "extra_body", "options")


class EngineConfig(BaseModel):
    """The configuration of one engine; it is all that an engine is made of.

    ``endpoint`` (also ``base_url``, ``api_base``, ``host``) is the server's address, with or
    without ``/v1``; left out, the backend's default. ``api_key_env`` names the environment
    variable that holds the key. ``timeout`` is the total in seconds, or a mapping of the four
    clocks. ``max_retries`` (also ``num_retries``) counts the attempts after the first;
    ``retry_wait`` is the longest wait before the second, in seconds, and doubles each time.
    ``max_concurrency`` is how many calls may be under way at once; left out, what fits the backend.
    ``reasoning`` is a bool or an effort such as "low". ``sampling`` holds defaults that a call's
    own parameters go over. ``extra_body`` goes into every request's body as it is.
    ``structured`` says with which step calls with an ``output_model`` begin: "json_schema",
    "json_object" or "prompt"; "auto" probes once whether the server enforces schemas.
    ``price`` is {input, output, cached_input} for a million tokens, or {gpu_hour}; left out, it is
    looked up in genai-prices if that is installed, and else unknown.
    ``transport`` is "aiohttp", "httpx", or "auto": aiohttp, except while httpx is mocked.
    ``cold_start`` is for a server that sleeps when nobody asks: how many seconds its waking may
    take; left out, a sleeping server is a failing one.
    ``limits`` bounds what is read of one answer, as a mapping of the fields of AnswerLimits.

    Keys are shown nowhere: not by repr, and not in the JSON of ``model_dump_json``, in which
    headers, passwords in ``endpoint``, and fields named after keys are masked. Pickle keeps them.
    Raises InvalidFieldError that names each field that is wrong.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

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
    max_concurrency: int | None = Field(default=None, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
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
    transport: Literal["auto", "aiohttp", "httpx"] = "auto"
    cold_start: float | None = Field(None, gt=0)
    limits: Annotated[AnswerLimits, BeforeValidator(AnswerLimits.of)] = DEFAULT_LIMITS
    options: dict[str, Any] = Field(default_factory=dict)

    if not TYPE_CHECKING:  # type checkers know the fields by their annotations

        def __init__(self, *args: Any, **fields: Any) -> None:
            """Refuse what is wrong in one line; pydantic's own would show the values, keys too."""
            if args:
                msg = (
                    "EngineConfig takes its fields by name, such as "
                    "EngineConfig(backend='openai_compatible', model=..., endpoint=...)"
                )
                raise InvalidFieldError(msg)
            # Before pydantic sees them: tools that report errors show the locals of its frames.
            fields = conceal(fields)
            try:
                super().__init__(**fields)
            except ValidationError as error:
                where = f"engine {fields.get('name') or fields.get('backend') or ''!r}"
                raise InvalidFieldError(problems(where, error)) from None

        # Without this pydantic would call it for nested models and `model_validate` as well, whose
        # callers expect pydantic's own ValidationError.
        __init__.__pydantic_base_init__ = True

    @model_validator(mode="before")
    @classmethod
    def _concealed_input(cls, data: Any) -> Any:
        data = conceal(data)  # before anything can fail: errors quote what they were given
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

    def model_post_init(self, _context: Any, /) -> None:
        """Name an unnamed engine after its backend, and keep its keys out of every text."""
        if not self.name:
            object.__setattr__(self, "name", self.backend)
        if self.api_key is not None:
            register(self.api_key.get_secret_value())
        # Here and not only on the way in, because pydantic makes plain texts of validated ones.
        for field in _CONCEALED:
            object.__setattr__(self, field, conceal(getattr(self, field), field))

    @field_serializer(*_CONCEALED, when_used="json")
    def _masked(self, value: Any) -> Any:
        return as_shown(value)

    @cached_property
    def engine(self) -> Engine:
        """The client of this configuration: light, made once, safe to keep."""
        made: Engine = load_backend(self.backend)(self)
        return made

    @property
    def key_variable(self) -> str | None:
        """The environment variable that is named as the key's, in either spelling."""
        literal = self._literal_key
        named = literal.removeprefix(_ENV_PREFIX) if literal.startswith(_ENV_PREFIX) else None
        return self.api_key_env or named

    @property
    def _literal_key(self) -> str:
        return self.api_key.get_secret_value() if self.api_key is not None else ""

    def resolve_key(self) -> str | None:
        """The key as text, from here or from the environment; None where none is configured.

        Raises ConfigError that names the engine and the variable if that is not set.
        """
        variable = self.key_variable
        if variable is None:
            return self._literal_key or None
        key = os.environ.get(variable)
        if not key:
            msg = (
                f"engine {self.name!r}: api_key_env: the environment variable {variable} is not "
                f"set; export {variable}=... or take api_key_env out"
            )
            raise ConfigError(msg)
        register(key)
        return key

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """A copy with some fields changed, and with an engine of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("engine", None)
        copied.model_post_init(None)
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        state["__dict__"] = {k: v for k, v in state["__dict__"].items() if k != "engine"}
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.model_post_init(None)  # in this process nobody knows its keys yet


_FIELDS = [
    *EngineConfig.model_fields,
    *("base_url", "api_base", "host", "num_retries"),
]


def problems(where: str, error: ValidationError) -> str:
    """What is wrong with the fields of an engine, without the values that were given."""
    return "; ".join(f"{where}: {_problem(entry)}" for entry in error.errors(include_input=False))


def _problem(error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "engine"
    if error["type"] == "extra_forbidden":
        return f"{field}: is not a field of an engine; {suggestion(field, _FIELDS)}"
    if error["type"] == "missing":
        return f"{field}: is missing"
    return f"{field}: {str(error['msg']).removeprefix('Value error, ')}"
