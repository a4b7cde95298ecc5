"""The shipped contract suite: how results become outcomes of tests, and reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract.registry import Level, Tier, select

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.mock import ReceivedRequest

_SUITE = ("--pyargs", "pytest_llmengine.contract")
_SMOKE = len(select(tier=Tier.SMOKE))
_AUTH = len(select(ids=["auth"]))
_KEY = "sk-of-the-suite-1234567890"


def _without_created(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
    body.pop("created", None)
    return body


def _without_refusal(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
    for choice in body.get("choices", ()):
        del choice["message"]["refusal"]
    return body


def _ignoring(name: str) -> Behaviour:
    def forget(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        body.pop(name, None)
        return body

    return Behaviour(f"ignores {name}", request=forget)


def test_reference_passes(pytester: pytest.Pytester) -> None:
    """The mock passes every check, each under the name of engine and check."""
    result = pytester.runpytest_inprocess(*_SUITE, "--engine=mock", "--engine-tier=smoke", "-v")

    result.assert_outcomes(passed=_SMOKE)
    result.stdout.fnmatch_lines(
        [
            "llmengine: mock, live at *; tier smoke",
            "*test_contract[[]mock-chat.basic.required_fields] PASSED*",
            "*LLM engine contract: mock*",
            f"{_SMOKE} checks: {_SMOKE} pass; all accepted",
        ]
    )


def _required() -> int:
    return len(select(tier=Tier.SMOKE, levels=[Level.REQUIRED]))


def test_levels_select(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """By command line, environment and ini file; several levels add up."""
    arguments = (*_SUITE, "--engine=mock", "--engine-tier=smoke")
    both = len(select(tier=Tier.SMOKE, levels=[Level.REQUIRED, Level.EXPECTED]))
    assert 0 < _required() < both < _SMOKE

    given = ("--engine-level=required", "--engine-level=expected")
    pytester.runpytest_inprocess(*arguments, *given).assert_outcomes(passed=both)
    pytester.makeini("[pytest]\nllmengine_level = required")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=_required())
    monkeypatch.setenv("LLMENGINE_LEVEL", "required,expected")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=both)


def test_unknown_level_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error lists the levels."""
    monkeypatch.setenv("LLMENGINE_LEVEL", "expected,requird")

    result = pytester.runpytest_inprocess(*_SUITE, "--engine=mock")

    result.stderr.fnmatch_lines(
        ["*LLMENGINE_LEVEL is 'requird'; it is one of required, expected, optional, quirk"]
    )


def test_broken_rule(pytester: pytest.Pytester) -> None:
    """The failure has the reason, the rule and the last exchange, and no frames of the plugin."""
    with MockServer(behaviour=Behaviour("no created", reply=_without_created)) as server:
        result = pytester.runpytest_inprocess(
            *_SUITE, f"--engine-url={server.base_url}", "-k", "chat.basic.required_fields"
        )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "fail: *created*",
            "The rule: A chat completion has id, object, created, model and choices*",
            "> POST /chat/completions",
            '{"model": "mock", *',
            "< 200",
            '{"id":*',
        ]
    )
    assert "runner.py" not in result.stdout.str()


@pytest.mark.parametrize("group", ["completions", "net", "responses.stream"])
def test_a_group_selects_by_keyword(pytester: pytest.Pytester, group: str) -> None:
    """`-k` takes the groups in reports, for any ids of their checks."""
    result = pytester.runpytest_inprocess(
        *_SUITE, "--engine=mock", "-k", group, "--collect-only", "-q"
    )

    collected = {line.partition("[mock-")[2].rstrip("]") for line in result.outlines}
    assert {check.id for check in select(ids=[group])} <= collected


def test_known_deviation_and_one_that_is_gone(pytester: pytest.Pytester) -> None:
    """A deviation of the profile is an xfail with its reason; one that is gone is a failure."""
    with MockServer(behaviour=Behaviour("no refusal", reply=_without_refusal)) as server:
        result = pytester.runpytest_inprocess(
            *_SUITE,
            "--engine=embedded",
            "--engine-model=mock",
            f"--engine-url={server.base_url}",
            "-rx",
            "-k",
            "chat.message.required or err.shape",
        )

    result.assert_outcomes(xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["fail: the deviation of * is gone*", "XFAIL *refusal*"])


def test_profile_of_the_projects_own(pytester: pytest.Pytester) -> None:
    """`llmengine_profile` replaces the shipped one; a wrong file ends the run at once."""
    pytester.makeini("[pytest]\nllmengine_profile = mine.toml\n")
    profile = pytester.path / "mine.toml"
    rule = "chat.message.required"
    profile.write_text(
        f'[[deviation]]\ncheck = "{rule}"\noutcome = "fail"\nversion = "1"\nreason = "my words"\n'
    )
    with MockServer(behaviour=Behaviour("no refusal", reply=_without_refusal)) as server:
        aim = (*_SUITE, f"--engine-url={server.base_url}", "-k", rule)
        pytester.runpytest_inprocess(*aim).assert_outcomes(xfailed=1)
        profile.write_text("engine = ")
        wrong = pytester.runpytest_inprocess(*aim)

    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*mine.toml: not TOML*"])


def test_ignored_parameter_fails(pytester: pytest.Pytester) -> None:
    """The failure of a parameter that has no effect says so."""
    with MockServer(behaviour=_ignoring("tool_choice")) as server:
        result = pytester.runpytest_inprocess(
            *_SUITE, f"--engine-url={server.base_url}", "-k", "tools.choice.required and not stream"
        )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ignored: *"])


@pytest.fixture
def odd_checks(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that adds checks of its own, one of them broken."""
    pytester.makeconftest(
        """
        from llmengine.types.request import Capability
        from pytest_llmengine.contract.outcomes import Refused, Unmeasured
        from pytest_llmengine.contract.driver import Driver, Package
        from pytest_llmengine.contract.registry import QUIRK, SMOKE, check

        class Client(Driver):
            package = Package("no-such-client", (1, 0))

        def row(id, **more):
            return check(id, level=QUIRK, tier=SMOKE, source="here", **more)

        @row("odd.broken")
        def broken(target):
            '''A check with a bug.'''
            1 / 0

        @row("odd.unmeasured")
        def unmeasured(target):
            '''A check that cannot know.'''
            raise Unmeasured("no clock here")

        @row("odd.undriven", driver=Client)
        def undriven(target):
            '''A check of a client library that is not here.'''
            1 / 0

        @row("odd.refused", needs={Capability.VISION})
        def refused(target):
            '''A check of what the embedded profile does not claim.'''
            raise Refused("no tools here")
        """
    )
    return pytester


def test_broken_and_unmeasured_checks(odd_checks: pytest.Pytester, upstream: MockServer) -> None:
    """A broken check fails as an error of the check; an unmeasured one is a skip with a reason."""
    aim = ("--engine=embedded", f"--engine-url={upstream.base_url}", "--engine-model=mock")

    result = odd_checks.runpytest_subprocess(*_SUITE, *aim, "-rs", "-k", "odd")

    result.assert_outcomes(failed=1, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "error: the check itself broke: ZeroDivisionError: division by zero",
            "This is not a verdict on the engine.",
            "SKIPPED *unmeasured: no clock here",
            "SKIPPED *unmeasured: no-such-client>=1.0 is not installed*",
            "SKIPPED *refused: no tools here",
        ]
    )


def test_record_and_replay_agree(pytester: pytest.Pytester) -> None:
    """Recorded and replayed outcomes are the same, and each check has its own cassette."""
    arguments = (*_SUITE, "--engine=openai_compatible", "--engine-tier=smoke")
    with MockServer() as server:
        pytester.runpytest_inprocess(
            *arguments,
            f"--engine-url={server.base_url}",
            "--engine-mode=record",
            "--engine-report=recorded.json",
        ).assert_outcomes(passed=_SMOKE)

    result = pytester.runpytest_inprocess(*arguments, "--engine-report=replayed.json")

    assert result.ret == pytest.ExitCode.OK
    assert _outcomes(pytester.path / "replayed.json") == _outcomes(pytester.path / "recorded.json")
    folder = pytester.path / "cassettes" / "openai_compatible"
    assert len(list(folder.glob("*.yaml"))) == _SMOKE


def test_rules_about_keys_are_replayed_too(pytester: pytest.Pytester) -> None:
    """The replay of a server that wants a key has the same outcomes without the key."""
    arguments = (*_SUITE, "--engine=openai_compatible", "-k", "auth and not messages")
    with pytest.MonkeyPatch.context() as shell, MockServer(api_key=_KEY) as server:
        shell.setenv("LLMENGINE_API_KEY", _KEY)
        url = f"--engine-url={server.base_url}"
        pytester.runpytest_inprocess(*arguments, url, "--engine-mode=record").assert_outcomes(
            passed=_AUTH
        )

    result = pytester.runpytest_inprocess(*arguments)

    result.assert_outcomes(passed=_AUTH)
    for tape in (pytester.path / "cassettes").rglob("*.yaml"):
        assert _KEY not in tape.read_text()


def test_without_an_engine_every_recorded_contract_is_replayed(pytester: pytest.Pytester) -> None:
    """All engines with recorded checks run; those with recorded tests only do not."""
    pytester.path.joinpath("engines.yaml").write_text(
        "- {name: a, backend: openai_compatible, model: mock}\n"
        "- {name: b, backend: openai_compatible, model: mock}\n"
    )
    only = (*_SUITE, "--engine-config=engines.yaml", "-k", "chat.basic.object_const")
    with MockServer() as server:
        for name in ("a", "b"):
            record = (f"--engine={name}", f"--engine-url={server.base_url}")
            pytester.runpytest_inprocess(*only, *record, "--engine-mode=record")
    tests = pytester.path / "cassettes" / "embedded" / "tests"
    tests.mkdir(parents=True)
    tests.joinpath("test_a.yaml").write_text("version: 1\ninteractions: []\n")

    result = pytester.runpytest_inprocess(*only, "-v")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*contract[[]a-chat*PASSED*", "*contract[[]b-chat*PASSED*"])


def test_request_that_was_not_recorded_gives_no_verdict(pytester: pytest.Pytester) -> None:
    """The error of the replayer would pass a check of errors, so it is an error of the check."""
    arguments = (*_SUITE, "--engine=openai_compatible", "-k", "err.shape")
    with MockServer() as server:
        url = f"--engine-url={server.base_url}"
        pytester.runpytest_inprocess(*arguments, url, "--engine-mode=record")
    (tape,) = (pytester.path / "cassettes").rglob("*.yaml")
    tape.write_text(tape.read_text().replace("/v1/", "/v2/"))

    result = pytester.runpytest_inprocess(*arguments, "--engine-report=report.json")

    result.assert_outcomes(failed=1)
    assert _outcomes(pytester.path / "report.json") == {"err.shape": "error"}


def test_a_rule_that_is_not_recorded_yet_is_skipped(pytester: pytest.Pytester) -> None:
    """A check without a cassette is listed with the command that records it, and skipped.

    The same run still fails for a recorded check that sends something else.
    """
    arguments = (*_SUITE, "--engine=openai_compatible", "--engine-report=report.json", "-rs")
    recorded, changed, new = (
        f"chat.basic.{n}" for n in ("object_const", "id_unique", "model_echo")
    )
    with MockServer() as server:
        live = (f"--engine-url={server.base_url}", "--engine-mode=record")
        pytester.runpytest_inprocess(*arguments, *live, "-k", f"{recorded} or {changed}")

    result = pytester.runpytest_inprocess(*arguments, "-k", f"{recorded} or {new}")

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=1)
    command = f"llmengine verify --engine openai_compatible --mode record --check {new}"
    result.stdout.fnmatch_lines(["Not recorded yet (1)", f"SKIPPED *{command}"])
    (tape,) = (pytester.path / "cassettes").rglob(f"*{changed}.yaml")
    tape.write_text(tape.read_text().replace("Say hello.", "Say something else."))
    result = pytester.runpytest_inprocess(*arguments, "-k", f"{changed} or {new}")
    result.assert_outcomes(failed=1, skipped=1)
    outcomes = _outcomes(pytester.path / "report.json")
    assert outcomes == {changed: "error", new: "unrecorded"}


def test_several_engines_and_their_reports(pytester: pytest.Pytester) -> None:
    """Every engine has its matrix, and a file if a report is asked for."""
    entries = "- {name: a, backend: mock, model: a}\n- {name: b, backend: mock, model: b}\n"
    pytester.path.joinpath("engines.yaml").write_text(entries)

    result = pytester.runpytest_inprocess(
        *_SUITE,
        "--engine-config=engines.yaml",
        "--engine=a",
        "--engine=b",
        "--engine-tier=smoke",
        "--engine-report=report.json",
    )

    result.assert_outcomes(passed=2 * _SMOKE)
    result.stdout.fnmatch_lines(["*LLM engine contract: a*", "*LLM engine contract: b*"])
    for name in ("a", "b"):
        report = json.loads((pytester.path / f"report-{name}.json").read_text())
        assert report["provenance"]["model"] == name
        assert len(report["checks"]) == _SMOKE


def test_nothing_to_report(hello: pytest.Pytester) -> None:
    """An empty report that was asked for is mentioned."""
    result = hello.runpytest_inprocess("--engine=mock", "--engine-report=report.json")

    result.stdout.fnmatch_lines(["nothing to write to *report.json: no check *"])


def test_junit(pytester: pytest.Pytester) -> None:
    """JUnit has the id of the check of each test."""
    pytester.runpytest_inprocess(
        *_SUITE, "--engine=mock", "-k", "chat.basic.required_fields", "--junitxml=junit.xml"
    )

    root = ET.parse(pytester.path / "junit.xml").getroot()
    properties = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert properties == {"contract_id": "chat.basic.required_fields"}


def _outcomes(path: Path) -> dict[str, str]:
    return {row["id"]: row["outcome"] for row in json.loads(path.read_text())["checks"]}
