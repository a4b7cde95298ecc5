"""What a request must get past before its fields are looked at: key, content type, JSON."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from llmengine.mock.errors import ApiError

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, Call
    from llmengine.mock.service import Service


def parsed(body: bytes) -> Any:
    """The JSON value of a body; ValueError for what is none, lone surrogates included."""
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
        if rb"\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large")
    return value


def authorize(call: Call, service: Service) -> None:
    """Raise ApiError unless the call brings the key; the scheme's case does not matter."""
    without = service.behaviour.without_rules
    if service.key is None or _is_open(call, service):
        return
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    given = given.strip()
    if scheme.lower() != "bearer" or not given:
        if "auth.missing" not in without:
            _refuse("You didn't provide an API key in an Authorization header of type Bearer.")
    elif given != service.key and "auth.bad" not in without:
        _refuse("Incorrect API key provided.")


def _is_open(call: Call, service: Service) -> bool:
    listing = call.path.startswith("/v1/models")
    unprotected = listing and "auth.models_protected" in service.behaviour.without_rules
    return unprotected or call.path in {"/health", "/version"}


def _refuse(message: str) -> NoReturn:
    raise ApiError(message, status=401, code="invalid_api_key")


def json_object(call: Call, service: Service, *, any_type: bool) -> JSON | None:
    """A copy of the body's JSON object, after the behaviour's hook.

    None for a body that is no JSON object where the rule on that is switched off. `any_type`
    accepts every content type, as Ollama does.
    """
    without = service.behaviour.without_rules
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any_type and kind != "application/json" and "err.wrong_content_type" not in without:
        message = f"Unsupported content type: '{kind}'. This API takes 'application/json'."
        raise ApiError(message, status=415, code="unsupported_content_type")
    if isinstance(call.json, dict):
        return service.behaviour.request(copy.deepcopy(call.json), call)
    rule, message = _not_an_object(call.body)
    if rule in without:
        return None
    raise ApiError(message)


def _not_an_object(body: bytes) -> tuple[str, str]:
    try:
        parsed(body)
    except ValueError:
        message = "We could not parse the JSON body of your request. It must be valid JSON."
        return "err.malformed_json", message
    return "err.nonobject_body", "The JSON body of your request must be an object."
