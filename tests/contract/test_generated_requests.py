"""Generated requests, and what their rule says about servers that break on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from llmengine.mock import Behaviour, Fault, MockServer, Script, specification
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.generated_requests import generated_bodies, smallest
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import CheckResult, run_check

if TYPE_CHECKING:
    from llmengine.mock import RawReply, ReceivedRequest

PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses")


def bodies(path: str, seed: int = 1, count: int = 60) -> list[dict[str, Any]]:
    """Generated bodies."""
    return list(generated_bodies(path, "m", seed=seed, count=count))


@pytest.mark.parametrize("path", PATHS)
def test_the_seed_decides(path: str) -> None:
    """The same seed gives the same bodies, so that they can be recorded."""
    assert bodies(path) == bodies(path) != bodies(path, seed=2)


def test_the_bodies_do_not_change_with_the_version_of_python() -> None:
    """A recording that was made by another version has the same requests."""
    first, second, *_ = bodies("/embeddings", seed=1)
    assert (first, second) == (
        {"input": ["user", "Grüße 漢字 🦊"], "model": "m"},
        {"input": [[[[[[]]]]]], "model": "m"},
    )


@pytest.mark.parametrize("path", PATHS)
def test_every_second_body_is_broken(path: str) -> None:
    """The others fit the schema of the request, apart from sizes and patterns of texts."""
    validator = Draft202012Validator(
        specification.self_contained(specification.request_schema(f"POST {path}"))
    )
    texts = {"maxLength", "pattern", "format", "minLength", "maxItems", "maxProperties"}

    def valid(body: dict[str, Any]) -> bool:
        return all(_leaves(error) <= texts for error in validator.iter_errors(body))

    fitting = [valid(body) for body in bodies(path)]
    assert sum(fitting[::2]) >= 29  # of 30; some forms need one of two optional fields
    assert sum(fitting[1::2]) < 20


def _leaves(error: Any) -> set[str]:
    """The keywords that a value breaks in the form of a union that fits best."""
    if not error.context:
        return {error.validator}
    forms: dict[Any, set[str]] = {}
    for inner in error.context:
        forms.setdefault(inner.schema_path[0], set()).update(_leaves(inner))
    return min(forms.values(), key=len)


@pytest.mark.parametrize("path", PATHS)
def test_the_bodies_are_cheap(path: str) -> None:
    """None asks for a long answer, many answers, an answer in background, or an address."""
    for body in bodies(path, count=200):
        assert body["model"] == "m"
        assert body.get("max_tokens", 2) == 2
        assert "background" not in body
        assert body.get("n") not in (3, 128, 10**30)
        assert "://" not in json.dumps(body)
    capped = {"/responses": "max_output_tokens"}.get(path, "max_tokens")
    assert path == "/embeddings" or all(capped in body for body in bodies(path))


def test_a_body_is_shrunk_to_what_a_failure_needs() -> None:
    """Everything is left out without which it fails too, also inside of lists."""
    body = {"a": 1, "b": [{"c": 2, "bad": 3}, 4], "d": {"e": 5}}
    assert smallest(body, lambda one: "bad" in json.dumps(one)) == {"b": [{"bad": 3}]}


def test_shrinking_is_bounded() -> None:
    """After so many tries the body is what it is."""
    tried: list[object] = []

    def fails(one: object) -> bool:
        tried.append(one)
        return True

    assert len(smallest(dict.fromkeys(map(str, range(50))), fails, tries=5)) == 45
    assert len(tried) == 5


def run(
    name: str, behaviour: Behaviour, *, script: Script | None = None, answer: float = 20.0
) -> CheckResult:
    """The result of a check on a server that differs from the reference."""
    with (
        MockServer(behaviour=behaviour, script=script) as server,
        Target(server.base_url, server.model, limits=Limits(answer=answer)) as target,
    ):
        return run_check(catalogue()[name], target, Profile("mock"))


def _crashes(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if b'"suffix"' in call.body:
        reply.status = 500
        reply.chunks = [b'{"error": "boom"}']
    return reply


def test_a_find_has_the_command_that_repeats_it() -> None:
    """The body in the command is as small as the failure allows, and the key is not in it."""
    result = run("err.generated.completions", Behaviour("crashes", wire=_crashes))
    assert result.outcome is Outcome.FAIL
    assert result.reason.startswith("a generated request gets a 500 “boom” to “curl -sS -X POST ")
    assert result.fact == "POST /completions: 500 boom"  # as of any other rule that meets it
    assert '"$URL/completions" -H "Authorization: Bearer $KEY"' in result.reason
    sent = json.loads(result.reason.partition(" -d '")[2].partition("'”")[0])
    assert set(sent) - {"suffix"} == {"max_tokens", "model"}


def _breaks_off(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if b'"dimensions"' in call.body:
        reply.cut = True
        reply.chunks = []
    return reply


def test_a_closed_connection_is_a_find() -> None:
    """A server that drops the connection has lost the request."""
    result = run("err.generated.embeddings", Behaviour("closes", wire=_breaks_off))
    assert result.outcome is Outcome.FAIL
    assert result.reason.startswith("a generated request gets a closed connection to “curl ")


def test_a_hang_is_a_find_if_the_server_goes_on() -> None:
    """The request after it is answered, so it was this one that hung."""
    faults = [None, None, Fault(delay=30)]
    result = run("err.generated.chat", Behaviour(), script=Script(faults=faults), answer=1.0)
    assert result.outcome is Outcome.FAIL
    assert result.reason.startswith("a generated request gets no answer to “curl ")


def test_a_server_that_hangs_for_good_gets_no_verdict() -> None:
    """The first request, which is a valid one, has no answer."""
    faults = [Fault(delay=30)] * 2
    result = run("err.generated.chat", Behaviour(), script=Script(faults=faults), answer=0.5)
    assert result.outcome is Outcome.ERROR
