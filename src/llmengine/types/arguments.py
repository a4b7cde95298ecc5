"""Errors for unknown arguments, with a suggestion which name is meant."""

from __future__ import annotations

from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmengine.types.errors import LLMEngineError

    Advice = Callable[[Mapping[str, object]], str | None]


C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question with the known name that is probably meant, or else a list of all known names."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"


def checked_call(
    what: str, error: type[LLMEngineError], advice: Advice | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator that makes a function raise ``error`` for unknown or too many arguments.

    ``what`` is the name of the function in the message.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        code = function.__code__
        positional = code.co_argcount
        names = code.co_varnames[: positional + code.co_kwonlyargcount]
        known = frozenset(names)
        listed = [name for name in names if name != "self"]

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if len(args) > positional or not kwargs.keys() <= known:
                unknown = {name: kwargs[name] for name in kwargs if name not in known}
                raise error(_problem(what, unknown, listed, advice))
            return function(*args, **kwargs)

        return checked

    return decorate


def checked_fields(
    error: type[LLMEngineError], advice: Advice | None = None, what: str | None = None
) -> Callable[[type[C]], type[C]]:
    """`checked_call` for the constructor of a dataclass; ``what`` is the class name by default."""

    def decorate(cls: type[C]) -> type[C]:
        check = checked_call(what or cls.__name__, error, advice)
        cls.__init__ = check(cls.__init__)  # type: ignore[method-assign]
        return cls

    return decorate


def _problem(
    what: str, unknown: Mapping[str, object], known: list[str], advice: Advice | None
) -> str:
    if not unknown:
        return f"{what} was given too many arguments; give them by name: {', '.join(known)}"
    hint = advice(unknown) if advice is not None else None
    names = ", ".join(map(repr, unknown))
    return f"{what} has no argument {names}; {hint or suggestion(next(iter(unknown)), known)}"
