"""Makes sure that a running server can be talked to: one clear error spares a hundred failures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx

from llmengine.dialects.errors import read_envelope
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CallError,
)
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Fail, NoVerdict
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance
from pytest_llmengine.targets.backends import facts
from pytest_llmengine.targets.errors import TargetError
from pytest_llmengine.targets.recognition import recognised
from pytest_llmengine.targets.ways import choose_model

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Fingerprint
    from pytest_llmengine.contract.target import Reply

_SECONDS = 20.0
_MAX_SHOWN = 200
_NO_KEY = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


def identify(engine: Engine, otherwise: str = "") -> Provenance:
    """What the server says of itself, once it has answered a question with a token.

    An engine without a model gets the only one that the server lists. Raises TargetError when
    nothing answers (``otherwise`` is what else can be done then), the key is refused, or there is
    no such model.
    """
    try:
        found = engine.fingerprint()
        if not found.model:
            raise TargetError(_needs_model(engine, found))
        reply = _try(engine, found)
    except AuthenticationError as error:
        raise TargetError(_key_is_refused(engine, error.status, error.body or "")) from error
    except (APIConnectionError, APITimeoutError, NoVerdict) as error:
        raise TargetError(
            f"engine {engine.name!r}: nothing answers at {engine.base_url} "
            f"({error or type(error).__name__}); start the server, or correct the address"
            f"{otherwise}"
        ) from error
    except CallError as error:
        raise TargetError(f"engine {engine.name!r}: {engine.base_url}: {error}") from error
    server = facts(engine.backend).server
    if server == engine.backend and reply is not None:  # it may be any program that speaks so
        server = recognised(engine, found, reply) or server
    auth = "bearer" if engine.api_key else None
    return Provenance(server, found.version, found.model, found.model_digest, auth)


def _needs_model(engine: Engine, found: Fingerprint) -> str:
    names = f"it has {', '.join(found.models)}" if found.models else "the server lists none"
    return f"engine {engine.name!r} has no model: {choose_model(engine)}; {names}"


def _try(engine: Engine, found: Fingerprint) -> Reply | None:
    """The answer to a question of one token; None if it broke off.

    Whatever else is wrong with it is for the checks to judge.

    A list is not enough: it may be open where the chat needs a key, and a server may know models
    that it does not list, such as aliases.
    """
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": found.model, "messages": messages, "max_tokens": 1}
    with Target(
        engine.base_url, str(found.model), limits=Limits(answer=_SECONDS), query=engine.query
    ) as target:
        try:
            reply = target.post("/chat/completions", body, headers=engine.headers)
        except Fail:
            return None  # an answer that broke off, or had no end
    if reply.status in _NO_KEY:
        raise TargetError(_key_is_refused(engine, reply.status, reply.text))
    if not httpx.codes.is_client_error(reply.status):
        return reply
    if found.models is not None and found.model not in found.models:
        names = ", ".join(found.models) or "none at all"
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no model {found.model!r} "
            f"({_said(reply.status, reply.text)}); it has {names}; "
            f"{choose_model(engine)}{_pull(engine, found)}"
        )
    if found.models is None and reply.status == httpx.codes.NOT_FOUND:
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no /chat/completions (404); "
            "the address of an OpenAI-style API usually ends in /v1"
        )
    return reply


def _pull(engine: Engine, found: Fingerprint) -> str:
    command = facts(engine.backend).get_model
    return f", or get it by `{command} {found.model}`" if command else ""


def _key_is_refused(engine: Engine, status: int | None, body: str) -> str:
    what = "does not accept the key" if engine.api_key else "asks for a key"
    words = f"{what} ({_said(status, body)}); {_key_advice(engine)}"
    return f"engine {engine.name!r}: {engine.base_url} {words}"


def _key_advice(engine: Engine) -> str:
    own = "LLMENGINE_API_KEY (with --engine-url), or api_key_env in the engines file"
    variable = engine.key_env
    if variable is None:
        return f"set {own}"
    if engine.api_key is None and os.environ.get(variable):
        beside = engine.endpoint_env[0]
        return f"{variable} goes to the address in {beside}: set that to this one, or set {own}"
    return f"set {variable} or {own}"


def _said(status: int | None, body: str) -> str:
    """The status and the server's own words, or the start of the body where it has none."""
    words = " ".join((read_envelope(body.encode()).message or body).split())
    return scrub(f"{status} {words[:_MAX_SHOWN]}".strip())
