"""Asks a server one question before a run: a hundred failures with one cause help nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from pytest_llmengine.contract.outcomes import Verdict
from pytest_llmengine.contract.target import TargetUnreachable
from pytest_llmengine.targets import TargetError

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

_NO_KEY = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


def probe(target: Target, *, key_variable: str) -> None:
    """Raise TargetError when nothing answers, the key is refused, or there is no such model.

    ``key_variable`` is the environment variable that holds the key. Any other answer, a wrong one
    included, is for the checks to judge.
    """
    target.begin()
    try:
        _ask(target, key_variable)
    except TargetUnreachable as error:
        raise TargetError(f"{error}; start the server, or correct the address") from error
    except Verdict as verdict:
        raise TargetError(f"{target.base_url} gives no answer: {verdict}") from verdict


def _ask(target: Target, key_variable: str) -> None:
    reply = target.chat(max_tokens=1)
    if reply.status in _NO_KEY:
        said = f"{reply.status} {reply.error_message}".strip()
        raise TargetError(
            f"{target.base_url} does not accept the key ({said}); put the right one into the "
            f"environment variable {key_variable}"
        )
    if reply.status >= httpx.codes.BAD_REQUEST:
        _blame_model(target, reply)


def _blame_model(target: Target, reply: Reply) -> None:
    offered = _models(target)
    if offered is None and reply.status == httpx.codes.NOT_FOUND:
        raise TargetError(
            f"{target.base_url} has no /chat/completions (404); "
            "the address of an OpenAI-style API usually ends in /v1"
        )
    if offered is not None and target.model not in offered:
        names = ", ".join(sorted(offered)) or "none at all"
        raise TargetError(
            f"{target.base_url} has no model {target.model!r} ({reply.status} "
            f"{reply.error_message}); it has {names}; choose by --model"
        )


def _models(target: Target) -> set[str] | None:
    """The names that the server lists; None where it lists none in OpenAI's way."""
    try:
        rows = target.get("/models").success()["data"]
        return {row["id"] for row in rows}
    except (Verdict, KeyError, TypeError):
        return None
