"""A project's own rules, in its ``conftest.py``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract.registry import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.mock import RawReply, ReceivedRequest

_SUITE = ("--pyargs", "pytest_llmengine.contract")
_RULES = """
import http.client
from urllib.parse import urlsplit

from pytest_llmengine.contract import Driver, check, expect

@check("acme.names_itself", level="quirk", tier="smoke", source="our README")
def names_itself(target):
    '''Every answer names its node.'''
    reply = target.chat()
    reply.success()
    expect("x-acme-node" in reply.headers, "there is no header x-acme-node")

@check("acme.chat.model", level="expected", tier="core", source="our README", group="acme")
def model(target):
    '''An answer names the model.'''
    assert target.chat().success()["model"] == target.model

class Bare(Driver):
    '''Python's own HTTP client.'''

    def __init__(self, target):
        super().__init__(target)
        url = urlsplit(target.base_url)
        self.path = url.path
        self.connection = http.client.HTTPConnection(url.netloc, timeout=10)

    def models(self):
        self.connection.request("GET", f"{self.path}/models")
        return self.connection.getresponse().read()

    def close(self):
        self.connection.close()

@check("acme.client.lists", level="quirk", tier="core", source="our README", driver=Bare)
def lists(client):
    '''Our client gets a list of models.'''
    assert b'"list"' in client.models()
"""


@pytest.fixture
def own_rules(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with rules of its own."""
    pytester.makeconftest(_RULES)
    return pytester


def _named(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers["x-acme-node"] = "7"
    return reply


def _rows(path: Path) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in json.loads(path.read_text())["checks"]}


def test_rules_are_tests_of_the_contract_with_groups_of_their_own(
    own_rules: pytest.Pytester,
) -> None:
    """Their ids are like those of the shipped rules, and reports list their groups."""
    with MockServer(behaviour=Behaviour("acme", wire=_named)) as server:
        aim = (*_SUITE, f"--engine-url={server.base_url}", "--engine-report=report.json")
        result = own_rules.runpytest_subprocess(*aim, "-v", "-k", "acme or usage.present_sum")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*test_contract[[]openai_compatible-usage.present_sum] PASSED*",
            "*test_contract[[]openai_compatible-acme.names_itself] PASSED*",
            "*test_contract[[]openai_compatible-acme.chat.model] PASSED*",
            "*test_contract[[]openai_compatible-acme.client.lists] PASSED*",
            "acme         *2",
            "acme.client  *1",
        ]
    )
    rows = _rows(own_rules.path / "report.json")
    assert rows["acme.chat.model"]["group"] == "acme"
    assert rows["acme.client.lists"]["group"] == "acme.client"


def test_a_broken_rule_fails_unless_the_profile_knows_it(own_rules: pytest.Pytester) -> None:
    """A profile of the project may hold its own rules as well."""
    own_rules.makefile(
        ".toml",
        mine='[[deviation]]\ncheck = "acme.names_itself"\noutcome = "fail"\nversion = "1"\n'
        'reason = "the old gateway"\n',
    )
    with MockServer() as server:
        aim = (*_SUITE, f"--engine-url={server.base_url}", "-k", "acme", "-rx")
        broken = own_rules.runpytest_subprocess(*aim)
        known = own_rules.runpytest_subprocess(*aim, "--engine-profile=mine.toml")

    broken.assert_outcomes(passed=2, failed=1)
    broken.stdout.fnmatch_lines(
        ["fail: there is no header x-acme-node", "The rule: Every answer names its node."]
    )
    known.assert_outcomes(passed=2, xfailed=1)
    known.stdout.fnmatch_lines(["XFAIL *the old gateway*"])


def test_rules_are_recorded_and_replayed(own_rules: pytest.Pytester) -> None:
    """What a driver sends is recorded too; a rule without a recording says how to make one."""
    arguments = (*_SUITE, "--engine=openai_compatible", "-k", "acme", "-rs")
    with MockServer() as server:
        live = (f"--engine-url={server.base_url}", "--engine-mode=record")
        recorded = own_rules.runpytest_subprocess(*arguments, *live)
    folder = own_rules.path / "cassettes" / "openai_compatible"
    assert {path.stem for path in folder.glob("*.yaml")} == {
        "acme.names_itself",
        "acme.chat.model",
        "acme.client.lists",
    }
    folder.joinpath("acme.chat.model.yaml").unlink()

    replayed = own_rules.runpytest_subprocess(*arguments)

    recorded.assert_outcomes(passed=2, failed=1)
    replayed.assert_outcomes(passed=1, failed=1, skipped=1)
    rules = own_rules.path / "conftest.py"
    command = f"llmengine verify --engine openai_compatible --rules {rules} --mode record"
    replayed.stdout.fnmatch_lines([f"SKIPPED *{command} --check acme.chat.model"])


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (_RULES.replace('"acme.names_itself"', '"chat.names_itself"'), "'chat' begins the names"),
        (_RULES.replace('"quirk"', '"hard"'), "the level 'hard' is not one of"),
        (_RULES + _RULES, "the id is taken by *conftest.py:6"),
        (f"import no_such_module\n{_RULES}", "No module named 'no_such_module'"),
    ],
    ids=["clash", "level", "duplicate", "import"],
)
def test_a_wrong_rule_ends_the_run_with_one_error(
    pytester: pytest.Pytester, rules: str, words: str
) -> None:
    """Pytest shows the line of conftest.py, and nothing of this package."""
    pytester.makeconftest(rules)

    result = pytester.runpytest_subprocess(*_SUITE, "--engine=mock")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ImportError while loading conftest *", "conftest.py:*", "E  *"])
    (error,) = [line for line in result.errlines if line.startswith("E ")]
    assert "registry.py" not in result.stderr.str()
    pytest.LineMatcher([error]).fnmatch_lines([f"*{words}*"])


def test_workers_of_xdist_have_the_rules(own_rules: pytest.Pytester) -> None:
    """The controller and its workers import the same conftest.py."""
    result = own_rules.runpytest_subprocess(*_SUITE, "--engine=mock", "-k", "acme", "-n", "2")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["acme  *1*1*"])


def test_a_run_in_this_process_leaves_no_rules_behind(own_rules: pytest.Pytester) -> None:
    """Two runs in one process may have rules with the same ids."""
    shipped = set(catalogue())
    arguments = (*_SUITE, "--engine=mock", "-k", "acme.chat.model")

    own_rules.runpytest_inprocess(*arguments).assert_outcomes(passed=1)
    assert set(catalogue()) == shipped
    own_rules.makeconftest(f"# moved by a line\n{_RULES}")
    own_rules.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


def test_a_second_run_in_one_process_has_the_rules_of_modules(
    pytester: pytest.Pytester,
) -> None:
    """Python does not import a plugin again, and its rules are there all the same."""
    pytester.makepyfile(
        acme_rules=_RULES,
        twice=f"""
        import pytest
        arguments = [*{_SUITE}, "--engine=mock", "-p", "acme_rules", "-k", "acme", "-q"]
        print([int(pytest.main(arguments)) for _ in range(2)])
        """,
    )

    result = pytester.runpython(pytester.path / "twice.py")

    result.stdout.fnmatch_lines(["1 failed, 2 passed*", "1 failed, 2 passed*", "[[]1, 1[]]"])


def test_rules_run_on_a_real_model(
    own_rules: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """The embedded engine answers the requests of rules and drivers."""
    request.getfixturevalue("gguf")

    result = own_rules.runpytest_subprocess(*_SUITE, "--engine=embedded", "-k", "acme")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["fail: there is no header x-acme-node"])
