"""The setup of a side: facts about its engine that may change answers, and how they are found."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

import httpx

from llmengine.types.errors import InvalidRequestError
from llmengine.types.request import ChatRequest
from llmengine.types.sampling import SamplingParams
from pytest_llmengine.parity.prompts import ParityError
from pytest_llmengine.reports.page import clipped
from pytest_llmengine.targets.pinned import PINNED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.engine.engine import Engine
    from pytest_llmengine.targets import Session


_LONGEST = 40  # characters of a name in a line; a hash is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a side besides its answers; None means unknown.

    Two unknown values never count as equal.

    ``weights`` is the name of the loaded weights, without their folder. ``overrides`` are sampling
    values that the engine's own configuration sends instead of the pinned ones. ``unsent`` are
    the pinned values for which its protocol has no field. ``options`` are the flags of an engine
    that we start ourselves. ``stated`` are the names of the facts that the user gave.
    """

    engine: str | None = None
    version: str | None = None
    model: str | None = None
    weights: str | None = None
    dtype: str | None = None
    prefix_caching: str | None = None
    batch_invariance: str | None = None
    context: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    unsent: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    stated: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The facts that are known, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The facts that `to_dict` wrote."""
        lists = {name: tuple(row.get(name, ())) for name in ("unsent", "stated")}
        return cls(**{**row, **lists})

    def with_stated(self, given: Iterable[str]) -> Facts:
        """The facts with those of the user, as ``name=value``; they replace what was found.

        Raises ParityError if a text is not of this form or the name is not known.
        """
        stated: dict[str, Any] = dict(_stated(text) for text in given)
        return replace(self, **stated, stated=(*self.stated, *stated))

    def describe(self) -> str:
        """Engine, version and model in a few words."""
        words = " ".join(
            word for word in (self.engine or "an unnamed engine", self.version) if word
        )
        return f"{words} ({clipped(self.weights or self.model or 'unknown model', _LONGEST)})"


STATEABLE = ("version", "weights", "dtype", "prefix_caching", "batch_invariance")
"""Facts that the user may give, because servers do not report them."""


def _stated(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if name not in STATEABLE or not separator or not value:
        raise ParityError(f"fact {text!r}: write name=value; the names are {', '.join(STATEABLE)}")
    return name, value


_TIMEOUT = 20.0  # seconds
# Values that have an effect, for the parameters that some servers do not accept.
_TRIAL_VALUES: dict[str, Any] = {
    "top_k": 5,
    "min_p": 0.5,
    "repetition_penalty": 1.5,
    "presence_penalty": 1.0,
    "frequency_penalty": 1.0,
}
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_CACHING = re.compile(
    r'^vllm:cache_config_info\{.*\benable_prefix_caching="(True|False)"', re.MULTILINE
)


def facts_of(session: Session) -> Facts:
    """The facts that can be found about a live engine; the others stay None."""
    engine = session.engine
    known: dict[str, Any] = {
        "engine": session.provenance.engine,
        "version": session.provenance.version,
        "model": session.provenance.model,
        "weights": session.provenance.model_digest,
        "overrides": _overrides(engine.config.extra_body),
        "unsent": _unsent(engine),
        "options": dict(engine.config.options),
    }
    if engine.backend.name == "vllm_api":
        known |= _facts_of_server(engine)
    elif engine.backend.name == "vllm_local":
        known |= _facts_in_process(engine)
    return Facts(**known)


def _overrides(extra_body: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the configuration sends in place of pinned values."""
    named = PINNED.keys() | _LIMITS
    return {k: v for k, v in extra_body.items() if k in named and v != PINNED.get(k)}


def _unsent(engine: Engine) -> tuple[str, ...]:
    """The pinned values that the engine's protocol has no field for.

    A dialect leaves out a value without effect if it has no field for it. So a value that has an
    effect is encoded here as a trial. Nothing is sent.
    """
    return tuple(
        name for name, value in _TRIAL_VALUES.items() if not _has_field(engine, name, value)
    )


def _has_field(engine: Engine, name: str, value: float) -> bool:
    messages = ({"role": "user", "content": "Hi"},)
    trial = ChatRequest("", "Hi", messages, SamplingParams.of({name: value}))
    try:
        engine.backend.dialect.encode(trial)
    except InvalidRequestError:
        return False
    return True


def _facts_of_server(engine: Engine) -> dict[str, Any]:
    """The facts that vLLM's server reports: the model's folder or hub name, context and caching.

    ``/server_info`` reports more, but only if VLLM_SERVER_DEV_MODE is 1.
    """
    with httpx.Client(
        headers=engine.backend.address.headers, timeout=_TIMEOUT, trust_env=False
    ) as client:
        models = _json(
            client.get(engine.backend.address.with_query(f"{engine.base_url}/models"))
        ).get("data", [])
        row: dict[str, Any] = next((m for m in models if m.get("id") == engine.model), {})
        caching = _CACHING.search(client.get(f"{engine.root_url}/metrics").text)
        info = _json(client.get(f"{engine.root_url}/server_info", params={"config_format": "json"}))
    seen = {
        "weights": _last_part(row.get("root")),
        "context": row.get("max_model_len"),
        "prefix_caching": _on_or_off(caching[1] == "True") if caching else None,
    }
    return seen | _server_info(info)


def _server_info(info: Mapping[str, Any]) -> dict[str, Any]:
    config, variables = info.get("vllm_config"), info.get("vllm_env")
    if not isinstance(config, dict) or not isinstance(variables, dict):
        return {}
    seen = {}
    if dtype := config.get("model_config", {}).get("dtype"):
        seen["dtype"] = str(dtype).removeprefix("torch.")
    if (invariant := variables.get("VLLM_BATCH_INVARIANT")) is not None:
        seen["batch_invariance"] = _on_or_off(bool(invariant))
    return seen


def _facts_in_process(engine: Engine) -> dict[str, Any]:
    """The flags that we give to vLLM in this process; vLLM decides about the others."""
    options = engine.config.options
    caching = options.get("enable_prefix_caching")
    return {
        "weights": _last_part(engine.model),
        "dtype": options.get("dtype"),
        "prefix_caching": None if caching is None else _on_or_off(caching),
        "batch_invariance": _on_or_off(os.environ.get("VLLM_BATCH_INVARIANT", "0") == "1"),
        "context": options.get("max_model_len"),
    }


def _last_part(path: str | None) -> str | None:
    """The last part of a folder or hub name; the parts before it differ between machines."""
    return PurePath(path).name if path else None


def _on_or_off(on: bool) -> str:
    return "on" if on else "off"


def _json(reply: httpx.Response) -> Mapping[str, Any]:
    """The object in a reply; empty if the server does not have the route."""
    if not reply.is_success:
        return {}
    try:
        value = reply.json()
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
