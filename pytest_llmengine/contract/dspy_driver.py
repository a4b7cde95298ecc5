"""Questions that hold their own answer, so that a row judges the server and not the model.

What a server answered to a DSPy program, as DSPy's history keeps it.

DSPy's own language model, aimed at a target.

A DSPy program run against a target: what goes wrong is laid at the server's or model's door.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel

from pytest_llmengine.contract.outcomes import Fail, Refused, Unmeasured, quote
from pytest_llmengine.contract.target import HTTPExchange, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from pytest_llmengine.contract.target import Target


P = TypeVar("P")


def repeating(**fields: Any) -> str:
    """A question that asks to repeat its answer, field by field as DSPy's ChatAdapter writes it."""
    said = "\n\n".join(f"[[ ## {name} ## ]]\n{_written(v)}" for name, v in fields.items())
    return f"Repeat these lines:\n\n{said}\n\n[[ ## completed ## ]]"


def rehearsed(program: P, *shown: dict[str, Any], **inputs: Any) -> P:
    """The program with demos that repeat: with three of them a model of 135M does it as well.

    ``shown`` is the fields of each answer, ``inputs`` what the demos are given beside the question.
    """
    import dspy  # noqa: PLC0415 - heavy and optional

    given = {"question", *inputs}
    demos = [dspy.Example(question=repeating(**fields), **inputs, **fields) for fields in shown]
    program.demos = [demo.with_inputs(*given) for demo in demos]  # type: ignore[attr-defined] # DSPy's
    return program


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)


_PATH = "/chat/completions (by DSPy)"
_OK = 200


@dataclass(frozen=True, slots=True)
class DSPyAnswer:
    """One call of the language model that was answered.

    ``texts`` and ``tool_calls`` have an entry a choice. ``schema`` is whether a JSON schema was
    asked for, ``cut`` whether the token cap ended a choice.
    """

    texts: tuple[str, ...]
    tool_calls: tuple[list[Any], ...]
    usage: Mapping[str, Any]
    schema: bool
    cut: bool
    exchange: HTTPExchange

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> DSPyAnswer:
        """The answer in an entry of a language model's history."""
        outputs = entry["outputs"] or []
        wanted = entry["kwargs"].get("response_format")
        return cls(
            texts=tuple(_text(output) for output in outputs),
            tool_calls=tuple(_calls(output) for output in outputs),
            usage=dict(entry["usage"] or {}),
            schema=wanted is not None and wanted != {"type": "json_object"},
            cut="length" in _finish_reasons(entry["response"]),
            exchange=_exchange(entry),
        )


def failed_exchange(message: str, status: int | None) -> HTTPExchange:
    """What is known of a call that DSPy ended with an error."""
    return HTTPExchange("POST", _PATH, "", status, {}, message, 0.0)


def _text(output: Any) -> str:
    text = output.get("text") if isinstance(output, dict) else output
    return text if isinstance(text, str) else ""


def _calls(output: Any) -> list[Any]:
    return list(output.get("tool_calls") or ()) if isinstance(output, dict) else []


def _finish_reasons(response: Any) -> list[Any]:
    """DSPy 3.4 keeps a response of its own, earlier ones keep litellm's."""
    choices = getattr(response, "choices", None) or [response]
    return [getattr(choice, "finish_reason", None) for choice in choices]


def _exchange(entry: Mapping[str, Any]) -> HTTPExchange:
    asked = {"messages": entry["messages"], **entry["kwargs"]}
    said = {"outputs": entry["outputs"], "usage": entry["usage"]}
    return HTTPExchange("POST", _PATH, _json(asked), _OK, {}, _json(said), 0.0)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


MAX_TOKENS = 120  # enough for what the checks ask, and soon over where a model rambles
_NO_KEY = "EMPTY"  # no server is asked for a key, but DSPy asks for one


def import_dspy() -> ModuleType:
    """DSPy, which must not fetch a list of prices while it is imported."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy  # noqa: PLC0415 - heavy and optional

    module: ModuleType = dspy
    return module


def language_model(target: Target, features: frozenset[str] = frozenset()) -> Any:
    """A ``dspy.LM`` that asks the target, once a call and never a cache.

    ``features`` is what DSPy is told that the model can do: ``tools``, ``json_object`` or
    ``json_schema``. Of a model that it does not know it supposes nothing.
    """
    lm = import_dspy().LM
    model = f"openai/{target.model}"
    if hasattr(lm, "supported_params"):
        lm = _declaring(lm, features)
    else:
        _tell_litellm(model, features)
    return lm(
        model,
        api_base=target.base_url,
        api_key=target.api_key or _NO_KEY,
        cache=False,
        num_retries=0,
        temperature=0,
        max_tokens=MAX_TOKENS,
        timeout=target.limits.answer,
    )


def _declaring(lm: Any, features: frozenset[str]) -> Any:
    """From 3.4 on DSPy asks the language model itself what it can do."""
    params = {"tools", "tool_choice"} if "tools" in features else set()
    if features & {"json_object", "json_schema"}:
        params.add("response_format")
    return type(
        "DeclaringLM",
        (lm,),
        {
            "supports_function_calling": "tools" in features,
            "supports_response_schema": "json_schema" in features,
            "supported_params": params,
        },
    )


def _tell_litellm(model: str, features: frozenset[str]) -> None:
    """Up to 3.3 DSPy asks litellm, which says what it was told last."""
    import litellm  # noqa: PLC0415 - heavy and optional

    known = {
        "litellm_provider": "openai",
        "mode": "chat",
        "supports_function_calling": "tools" in features,
        "supports_response_schema": "json_schema" in features,
    }
    litellm.register_model({model: known})


T = TypeVar("T")

_LOGGERS = ("dspy", "LiteLLM")


class Programs:
    """Runs DSPy programs on one target; ``answers`` is what the server said to the last one."""

    def __init__(self, target: Target, features: frozenset[str]) -> None:
        self.dspy: Any = import_dspy()
        self.lm = language_model(target, features)
        self.answers: list[DSPyAnswer] = []
        self._target = target

    def run(self, program: Callable[[], T]) -> T:
        """What the program returns, where every answer of the server was one.

        An answer without a text or a call, and an error that DSPy raises for it, fail the check; a
        clear 4xx ends it as refused. Where the server answered and DSPy cannot read the text, the
        model did not keep to DSPy's format: unmeasured.
        """
        try:
            made = program()
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            self._collect()
            self._blame(_first(error))
        self._collect()
        self._expect_answers()
        return made

    def _collect(self) -> None:
        self.answers = [DSPyAnswer.of(entry) for entry in self.lm.history]
        self.lm.history.clear()
        for answer in self.answers:
            self._target.note(answer.exchange)

    def _expect_answers(self) -> None:
        for answer in self.answers:
            if not answer.texts:
                raise Fail("an answer without a choice")
            for text, calls in zip(answer.texts, answer.tool_calls, strict=True):
                if text.strip() or calls:
                    continue
                if answer.cut:
                    raise Unmeasured("the token cap came before any text")
                raise Fail("an answer without a text and without a tool call")

    def _blame(self, error: BaseException) -> NoReturn:
        """End the check with the verdict on whoever is to blame for an error."""
        self._expect_answers()
        if self.answers and isinstance(error, (self._parse_error, ValueError)):
            raise Unmeasured(f"the model did not keep to the format: {self._last_text}") from error
        status = getattr(error, "status", None) or getattr(error, "status_code", None)
        message = " ".join(str(error).split())
        self._target.note(failed_exchange(message, status))
        if status is not None and refuses(status):
            raise Refused(f"{status} {quote(message)}") from error
        self._target.get("/models")  # raises where there is no server at all
        told = f"{status or ''} {quote(message)}".strip()
        raise Fail(f"DSPy ended with {type(error).__name__}: {told}") from error

    @property
    def _parse_error(self) -> type[Exception]:
        from dspy.utils.exceptions import AdapterParseError  # noqa: PLC0415 - heavy and optional

        found: type[Exception] = AdapterParseError
        return found

    @property
    def _last_text(self) -> str:
        return quote(self.answers[-1].texts[0])


@contextmanager
def programs(target: Target, *features: str, json: bool = False) -> Iterator[Programs]:
    """DSPy with the target as its language model, for as long as the block lasts.

    ``features`` is what the model is declared to do. Answers are read as DSPy's chat format, or
    as JSON, and never as the one where the other fails: each row judges one format.
    """
    with _quiet():
        made = Programs(target, frozenset(features))
        native = "tools" in features
        adapter = (
            made.dspy.JSONAdapter(use_native_function_calling=native)
            if json
            else made.dspy.ChatAdapter(
                use_native_function_calling=native, use_json_adapter_fallback=False
            )
        )
        with made.dspy.context(lm=made.lm, adapter=adapter, track_usage=True):
            yield made


@contextmanager
def _quiet() -> Iterator[None]:
    """What libraries warn of or log about an answer is in the verdict."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _first(error: BaseException) -> BaseException:
    """The error itself; of a group that tasks raised, the first one in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
