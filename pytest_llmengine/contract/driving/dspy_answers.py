"""What a server answered to a DSPy program, as DSPy's history keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.target import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = "/chat/completions (by DSPy)"
_OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """One call of the language model that was answered.

    ``texts`` and ``tool_calls`` have an entry a choice. ``schema`` is whether a JSON schema was
    asked for, ``cut`` whether the token cap ended a choice.
    """

    texts: tuple[str, ...]
    tool_calls: tuple[list[Any], ...]
    usage: Mapping[str, Any]
    schema: bool
    cut: bool
    exchange: Exchange

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Answer:
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


def failed_exchange(message: str, status: int | None) -> Exchange:
    """What is known of a call that DSPy ended with an error."""
    return Exchange("POST", _PATH, "", status, {}, message, 0.0)


def _text(output: Any) -> str:
    text = output.get("text") if isinstance(output, dict) else output
    return text if isinstance(text, str) else ""


def _calls(output: Any) -> list[Any]:
    return list(output.get("tool_calls") or ()) if isinstance(output, dict) else []


def _finish_reasons(response: Any) -> list[Any]:
    """DSPy 3.4 keeps a response of its own, earlier ones keep litellm's."""
    choices = getattr(response, "choices", None) or [response]
    return [getattr(choice, "finish_reason", None) for choice in choices]


def _exchange(entry: Mapping[str, Any]) -> Exchange:
    asked = {"messages": entry["messages"], **entry["kwargs"]}
    said = {"outputs": entry["outputs"], "usage": entry["usage"]}
    return Exchange("POST", _PATH, _json(asked), _OK, {}, _json(said), 0.0)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
