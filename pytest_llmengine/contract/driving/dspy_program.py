"""A DSPy program run against a target: what goes wrong is laid at the server's or model's door."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_llmengine.contract.driving.dspy_answers import Answer, failed_exchange
from pytest_llmengine.contract.driving.dspy_lm import import_dspy, language_model
from pytest_llmengine.contract.outcomes import Fail, Refused, Unmeasured
from pytest_llmengine.contract.quote import quote
from pytest_llmengine.contract.reply import refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.contract.target import Target

T = TypeVar("T")

_LOGGERS = ("dspy", "LiteLLM")


class Programs:
    """Runs DSPy programs on one target; ``answers`` is what the server said to the last one."""

    def __init__(self, target: Target, features: frozenset[str]) -> None:
        self.dspy: Any = import_dspy()
        self.lm = language_model(target, features)
        self.answers: list[Answer] = []
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
        self.answers = [Answer.of(entry) for entry in self.lm.history]
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
