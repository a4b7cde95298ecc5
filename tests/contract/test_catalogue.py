"""Every check of the contract passes on the reference, and can fail."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, RawReply
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.mutants.registry import Mutant, mutants, references
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import Check, Level, Tier, catalogue
from pytest_llmengine.contract.runner import run_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine.mock import ReceivedRequest

KEY = "a-key-for-the-mock"
CHECKS = catalogue()
MUTANTS = mutants()
NO_CLAIMS = Profile("mock")


def _param(check: Check, value: object = None, suffix: str = "") -> Any:
    """A check or its mutant, which is skipped if its client library is missing."""
    skip = pytest.mark.skipif(bool(check.missing), reason=check.missing)
    return pytest.param(value or check, id=f"{check.id}{suffix}", marks=skip)


each_check = pytest.mark.parametrize("check", [_param(c) for c in CHECKS.values()])


def _target(server: MockServer) -> Target:
    return Target(server.base_url, server.model, api_key=KEY)


@pytest.fixture(scope="module")
def reference() -> Iterator[Target]:
    """The unchanged mock server, which asks for a key."""
    with MockServer(api_key=KEY) as server, _target(server) as target:
        yield target


@each_check
def test_the_reference_passes(check: Check, reference: Target) -> None:
    """The unchanged mock server keeps every rule, or one that shows what the rule is about."""
    if (special := references().get(check.id)) is None:
        result = run_check(check, reference, NO_CLAIMS)
    else:
        with MockServer(behaviour=special, api_key=KEY) as server, _target(server) as target:
            result = run_check(check, target, NO_CLAIMS)
    assert result.outcome is Outcome.PASS, result.reason


@pytest.mark.parametrize(
    "mutant", [_param(CHECKS[m.check], m, f"-{m.behaviour.name}") for m in MUTANTS]
)
def test_the_mutant_is_killed(mutant: Mutant) -> None:
    """A check tells a server that breaks its rule from the reference, and does not break itself."""
    with MockServer(behaviour=mutant.behaviour, api_key=KEY) as server, _target(server) as target:
        result = run_check(CHECKS[mutant.check], target, NO_CLAIMS)
    never_failing = {Outcome.REFUSED, Outcome.LENIENT}
    assert result.outcome in {Outcome.FAIL, Outcome.IGNORED, *never_failing}, result.reason
    assert result.failed or result.outcome in never_failing
    assert result.reason


def test_every_check_has_a_mutant() -> None:
    """Every check has a mutant that it must fail on."""
    assert sorted(set(CHECKS) - {m.check for m in MUTANTS}) == []


def test_every_mutant_has_a_check_and_its_own_name() -> None:
    """A mutant names an existing check, and no two mutants of a check have the same name."""
    assert {m.check for m in MUTANTS} <= set(CHECKS)
    names = Counter((m.check, m.behaviour.name) for m in MUTANTS)
    assert [name for name, times in names.items() if times > 1] == []


def _answering(
    name: str, status: int, body: bytes | Callable[[bytes], bytes], kind: str = "application/json"
) -> Behaviour:
    """A server with one answer to every request; a function makes it from the request's body."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        data = body(call.body) if callable(body) else body
        return RawReply(status, {"content-type": kind}, [data])

    return Behaviour(f"{status} {name}", wire=wire)


def _error(code: str | None = None) -> bytes:
    told = {"message": "No.", "type": "invalid_request_error", "param": None, "code": code}
    return json.dumps({"error": told}).encode()


def _as_event(sent: bytes) -> bytes:
    return b"data: " + sent + b"\n\ndata: [DONE]\n\n"


SSE, HTML = "text/event-stream", "text/html"
MONOTONOUS = [
    _answering("the request", 200, lambda sent: sent),
    _answering("the request as text", 200, lambda sent: sent, "text/plain"),
    _answering("the request as a stream", 200, _as_event, SSE),
    _answering("an object", 200, b"{}"),
    _answering("a list", 200, b"[]"),
    _answering("null", 200, b"null"),
    _answering("nothing", 200, b""),
    _answering("nothing", 204, b""),
    _answering("a page", 200, b"<html>It works!</html>", HTML),
    _answering("an end of a stream", 200, b"data: [DONE]\n\n", SSE),
    _answering("a nested list", 200, b"[" * 100_000),
    _answering("what is no gzip", 200, b"\x1f\x8b not gzip"),
    _answering("an object", 400, b"{}"),
    _answering("an error", 400, _error()),
    _answering("an error", 401, _error()),
    _answering("an error", 404, _error("model_not_found")),
    _answering("a page", 404, b"<html>Not here.</html>", HTML),
    _answering("an error", 429, _error()),
    _answering("an object", 500, b"{}"),
    _answering("an error", 500, _error()),
]


@pytest.fixture(scope="module", params=MONOTONOUS, ids=lambda behaviour: behaviour.name)
def monotonous(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server that gives one answer to every request."""
    with MockServer(behaviour=request.param) as server, _target(server) as target:
        yield target


def test_a_server_with_one_answer_keeps_no_rule(monotonous: Target) -> None:
    """A server with the same answer to every request passes no check, and breaks none.

    None of its outcomes is accepted, so a run on it fails as a whole. A 401 or 429 refuses the
    client, so nothing can be said of most rules.
    """
    checks = [check for check in CHECKS.values() if not check.missing]
    results = [run_check(check, monotonous, NO_CLAIMS) for check in checks]
    judged = {Outcome.FAIL, Outcome.IGNORED, Outcome.REFUSED}
    if monotonous.get("/models").status in {401, 429}:
        judged.add(Outcome.ERROR)
    bad = {r.check.id: r for r in results if r.outcome not in judged or r.accepted}
    assert {name: (r.outcome, r.reason) for name, r in bad.items()} == {}


def test_every_row_is_complete() -> None:
    """A row has a rule in one sentence, a source, a level, a tier and a group."""
    incomplete = [
        check.id
        for check in CHECKS.values()
        if not (check.title.endswith(".") and check.source and check.group)
        or check.level not in Level
        or check.tier not in Tier
    ]
    assert incomplete == []


def test_the_mutants_of_a_group_stand_in_a_file_of_its_name() -> None:
    """The mutants of checks/err.py are in mutants/err.py."""
    package = resources.files("pytest_llmengine.contract")
    files = {path.name for path in (package / "mutants").iterdir()}
    groups = {f"{check.group.replace('.', '_')}.py" for check in CHECKS.values()}
    assert groups - files == set()
