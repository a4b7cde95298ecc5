"""Runs DSPy programs on a target, with DSPy's own language model.

The questions contain their own answers, so that a check judges the server and not the model. If a
program fails, the driver decides whether the server or the model is the cause.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx
from pydantic import BaseModel

from pytest_llmengine.contract.driver import Driver, Package
from pytest_llmengine.contract.outcomes import Fail, Refused, Unmeasured, quote
from pytest_llmengine.contract.reply import refuses
from pytest_llmengine.contract.target import HTTPExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from pytest_llmengine.contract.target import Target


P = TypeVar("P")


def repeat_question(**fields: Any) -> str:
    """A question that contains its answer, in the form of fields of DSPy's ChatAdapter."""
    lines = "\n\n".join(f"[[ ## {name} ## ]]\n{_as_text(v)}" for name, v in fields.items())
    return f"Repeat these lines:\n\n{lines}\n\n[[ ## completed ## ]]"


def with_demos(program: P, *answers: dict[str, Any], **inputs: Any) -> P:
    """Give a program demos that repeat their text; with three demos, a model of 135M does so too.

    ``answers`` are the fields of each answer, ``inputs`` the inputs besides the question.
    """
    import dspy  # noqa: PLC0415 - heavy and optional

    names = {"question", *inputs}
    demos = [dspy.Example(question=repeat_question(**a), **inputs, **a) for a in answers]
    program.demos = [demo.with_inputs(*names) for demo in demos]  # type: ignore[attr-defined] # DSPy's
    return program


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)


_PATH = "/chat/completions (by DSPy)"


@dataclass(frozen=True, slots=True)
class DSPyAnswer:
    """An answered call of the language model, as DSPy's history keeps it.

    ``texts`` and ``tool_calls`` have one entry per choice. ``schema`` says whether the request had
    a JSON schema, ``cut`` whether the token cap ended a choice.
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
    """The known part of a call for which DSPy raised an error."""
    return HTTPExchange("POST", _PATH, "", status, {}, message, 0.0)


def _text(output: Any) -> str:
    text = output.get("text") if isinstance(output, dict) else output
    return text if isinstance(text, str) else ""


def _calls(output: Any) -> list[Any]:
    return list(output.get("tool_calls") or ()) if isinstance(output, dict) else []


def _finish_reasons(response: Any) -> list[Any]:
    """The finish reasons of a response, which is DSPy's own from 3.4 on and litellm's before."""
    choices = getattr(response, "choices", None) or [response]
    return [getattr(choice, "finish_reason", None) for choice in choices]


def _exchange(entry: Mapping[str, Any]) -> HTTPExchange:
    request = {"messages": entry["messages"], **entry["kwargs"]}
    response = {"outputs": entry["outputs"], "usage": entry["usage"]}
    return HTTPExchange("POST", _PATH, _json(request), httpx.codes.OK, {}, _json(response), 0.0)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


MAX_TOKENS = 120  # enough for the checks, and soon reached if a model does not stop
_NO_KEY = "EMPTY"  # the server needs no key, but DSPy does


def import_dspy() -> ModuleType:
    """Import DSPy without the download of a price list that its import would do."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy  # noqa: PLC0415 - heavy and optional

    module: ModuleType = dspy
    return module


def language_model(target: Target, features: frozenset[str] = frozenset()) -> Any:
    """A ``dspy.LM`` that asks the target, without retries and without a cache.

    ``features`` are the features that DSPy takes as supported: ``tools``, ``json_object`` or
    ``json_schema``. DSPy assumes no features for a model that it does not know.
    """
    lm = import_dspy().LM
    model = f"openai/{target.model}"
    if hasattr(lm, "supported_params"):
        lm = _with_features(lm, features)
    else:
        _register_with_litellm(model, features)
    return lm(
        model,
        api_base=target.base_url,
        api_key=target.api_key or _NO_KEY,
        **({"extra_headers": dict(target.headers)} if target.headers else {}),
        cache=False,
        num_retries=0,
        temperature=0,
        max_tokens=MAX_TOKENS,
        timeout=target.limits.answer,
    )


def _with_features(lm: Any, features: frozenset[str]) -> Any:
    """Declare features on the language model, where DSPy looks them up from 3.4 on."""
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


def _register_with_litellm(model: str, features: frozenset[str]) -> None:
    """Declare features to litellm, where DSPy up to 3.3 looks them up."""
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
    """Runs DSPy programs on one target; ``answers`` are the server's to the last program."""

    def __init__(self, target: Target, features: frozenset[str]) -> None:
        self.dspy: Any = import_dspy()
        self.lm = language_model(target, features)
        self.answers: list[DSPyAnswer] = []
        self._target = target

    def run(self, program: Callable[[], T]) -> T:
        """Run a program and return its result, if all answers of the server were valid.

        The check fails for an answer without a text or a call, and for an error that DSPy raises
        because of one. A clear 4xx ends it as refused. If the server answered and DSPy cannot read
        the text, the model did not follow DSPy's format, and the check ends as unmeasured.
        """
        try:
            result = program()
        except Exception as error:  # noqa: BLE001 - each library has its own errors
            self._collect()
            self._end_after(_first_error(error))
        self._collect()
        self._expect_answers()
        return result

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

    def _end_after(self, error: BaseException) -> NoReturn:
        """End the check with the verdict for an error, depending on what caused it."""
        self._expect_answers()
        if self.answers and isinstance(error, (self._parse_error, ValueError)):
            raise Unmeasured(f"the model did not keep to the format: {self._last_text}") from error
        status = getattr(error, "status", None) or getattr(error, "status_code", None)
        message = " ".join(str(error).split())
        self._target.note(failed_exchange(message, status))
        if status is not None and refuses(status):
            raise Refused(f"{status} {quote(message)}") from error
        self._target.get("/models")  # raises if there is no server
        description = f"{status or ''} {quote(message)}".strip()
        raise Fail(f"DSPy ended with {type(error).__name__}: {description}") from error

    @property
    def _parse_error(self) -> type[Exception]:
        from dspy.utils.exceptions import AdapterParseError  # noqa: PLC0415 - heavy and optional

        found: type[Exception] = AdapterParseError
        return found

    @property
    def _last_text(self) -> str:
        return quote(self.answers[-1].texts[0])


class DSPyDriver(Driver):
    """Runs a check's programs on the target."""

    package = Package("dspy", (3, 1), install="pip install 'pytest-llmengine[dspy]'")

    @contextmanager
    def programs(self, *features: str, json: bool = False) -> Iterator[Programs]:
        """Use the target as DSPy's language model until the block ends.

        ``features`` are the declared features of the model. Answers are read in DSPy's chat format,
        or as JSON. DSPy does not try the other format if one fails, because each check judges one
        format.
        """
        with _quiet():
            programs = Programs(self.target, frozenset(features))
            native = "tools" in features
            adapter = (
                programs.dspy.JSONAdapter(use_native_function_calling=native)
                if json
                else programs.dspy.ChatAdapter(
                    use_native_function_calling=native, use_json_adapter_fallback=False
                )
            )
            with programs.dspy.context(lm=programs.lm, adapter=adapter, track_usage=True):
                yield programs


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of libraries about answers; the verdict has this information."""
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


def _first_error(error: BaseException) -> BaseException:
    """The error itself, or the first error of an exception group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
