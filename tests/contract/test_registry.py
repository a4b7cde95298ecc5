"""Rules that are not valid, and names that are reserved for the shipped rules."""

from __future__ import annotations

import subprocess
import sys
import unittest
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import Capability
from pytest_llmengine import contract
from pytest_llmengine.contract import Driver, RuleError, Target, check
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import (
    Level,
    Tier,
    catalogue,
    forget_rules,
    read_rules,
    reserved_prefixes,
    select,
)
from pytest_llmengine.contract.runner import run_check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rules of a test are in the catalogue for that test alone."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    forget_rules([sys.modules[__name__], sys.modules.get("llmengine_rules_rules")])
    assert all(check.own_file is None for check in catalogue().values())


def _add(id_: str = "acme.rule", run: Any = None, **fields: Any) -> None:
    def rule(target: Target) -> None:
        """A rule."""

    row: dict[str, Any] = {"level": "quirk", "tier": "smoke", "source": "here"} | fields
    check(id_, **row)(rule if run is None else run)


def test_a_table_makes_rules() -> None:
    """A title takes the place of the docstring, so a partial function can be a rule."""

    def rule(number: int, target: Target) -> None:
        pass

    for number in (1, 2):
        _add(f"acme.rule_{number}", partial(rule, number), title=f"The number {number} works.")
    rules = select(ids=["acme"])
    assert [r.title for r in rules] == ["The number 1 works.", "The number 2 works."]
    assert [r.own_file for r in rules] == [__file__, __file__]


def test_a_table_cannot_use_an_id_twice() -> None:
    """Two rows with one id are an error, although both come from the same line."""
    _add("acme.rule", title="One.")
    with pytest.raises(RuleError, match=r"acme.rule.*taken by .*test_registry"):
        _add("acme.rule", title="Two.")


def test_the_rest_of_the_docstring_says_what_breaks() -> None:
    """The first line is the rule, and the rest is for clients."""

    def rule(target: Target) -> None:
        """The answer has an id.

        The SDK's accumulator joins chunks
        by their id.
        """

    _add("acme.rule", rule, since="2026-11-27")
    (row,) = select(ids=["acme"])
    assert row.title == "The answer has an id."
    assert row.breaks == "The SDK's accumulator joins chunks by their id."
    assert row.since.isoformat() == "2026-11-27"


def test_heavy_rules_come_last() -> None:
    """A rule that may stop a bad server runs after the others."""
    _add("acme.first", title="One.", heavy=True)
    _add("acme.second", title="Two.")
    assert [r.id for r in select(ids=["acme"])] == ["acme.second", "acme.first"]


def test_names_of_this_package_resolve() -> None:
    """What the documentation imports from the package is there."""
    for name in contract.__all__:
        assert getattr(contract, name).__name__ == name
    assert not hasattr(contract, "chek")


def test_reserved_names_begin_the_ids_and_groups_of_the_shipped_rules() -> None:
    """A rule of a user cannot meet one that is shipped, or that is added to a shipped group."""
    names = [name for c in catalogue().values() for name in (c.id, c.group)]
    assert {name.partition(".")[0] for name in names} == reserved_prefixes()


def test_fields_may_be_given_as_text() -> None:
    """A rule has the group of its id, unless it names another; it comes after the shipped rules."""
    _add("acme.chat.rule", level="expected", tier="core", needs=["tools"])
    _add("acme.chat.other", group="acme")

    made = catalogue()["acme.chat.rule"]

    assert (made.level, made.tier, made.group) == (Level.EXPECTED, Tier.CORE, "acme.chat")
    assert made.needs == {Capability.TOOLS}
    assert made.own_file == __file__
    assert list(catalogue())[-2:] == ["acme.chat.rule", "acme.chat.other"]
    assert [c.id for c in select(ids=["acme"])] == ["acme.chat.rule", "acme.chat.other"]
    assert [c.id for c in select(ids=["acme.chat"])] == ["acme.chat.rule"]


async def _async_rule(target: Target) -> None:
    """A rule."""


def _generator(target: Target) -> Iterator[None]:
    """A rule."""
    yield


def _blank(target: Target) -> None:
    """ """  # noqa: D419 - what the test is about


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id_": "acme"}, "an id has parts of lower-case letters, digits and _"),
        ({"id_": "Acme.rule"}, "such as acme.names_itself"),
        ({"id_": "acme.a rule"}, "such as acme.names_itself"),
        ({"id_": "acme/../rule.x"}, "such as acme.names_itself"),
        ({"id_": "chat.mine"}, "'chat' begins the names of shipped rules"),
        ({"id_": "acme.rule", "group": "dspy"}, "'dspy' begins the names of shipped rules"),
        ({"id_": "acme.rule", "group": "other"}, "an id begins with its group"),
        ({"level": "hard"}, "the level 'hard' is not one of required, expected, optional, quirk"),
        ({"tier": "deep"}, "the tier 'deep' is not one of smoke, core, extended"),
        ({"needs": ["telepathy"]}, "the capability 'telepathy' is not one of streaming, "),
        ({"driver": dict}, "is not a subclass of Driver"),
        ({"driver": Driver(Target("http://x/v1", "m"))}, "is not a subclass of Driver"),
        ({"run": _blank}, "it has no docstring"),
        ({"run": _async_rule}, "an async function or a generator is not run"),
        ({"run": _generator}, "an async function or a generator is not run"),
        ({"run": Driver}, "it is not a function"),
    ],
    ids=[
        "one part",
        "upper case",
        "space",
        "path",
        "reserved id",
        "reserved group",
        "other group",
        "level",
        "tier",
        "capability",
        "driver class",
        "driver object",
        "no docstring",
        "async",
        "generator",
        "class",
    ],
)
def test_a_wrong_rule_is_one_error_that_names_its_line(fields: dict[str, Any], words: str) -> None:
    """The message has the place, the id, and what is wrong."""
    with pytest.raises(RuleError) as raised:
        _add(**fields)

    message = str(raised.value)
    assert words in message
    assert f"rule {fields.get('id_', 'acme.rule')!r}" in message
    assert "\n" not in message
    if "run" not in fields:
        assert message.startswith(f"{__file__}:")
    assert all(check.own_file is None for check in catalogue().values())


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    """Another function with the id is an error; the same file may be read again."""
    rules = tmp_path / "rules.py"
    rules.write_text(
        "from pytest_llmengine.contract import check\n\n"
        "@check('acme.rule', level='quirk', tier='core', source='here')\n"
        "def rule(target):\n    '''A rule.'''\n"
    )
    read_rules(rules)
    read_rules(rules)

    with pytest.raises(RuleError, match=rf"the id is taken by {rules}:3"):
        _add("acme.rule")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import json\nimport no_such_module\n", ":2: ModuleNotFoundError: No module named"),
        ("def rule(:\n", ": SyntaxError: "),
        ("import json\n", ": there is no rule in it"),
    ],
    ids=["import", "syntax", "empty"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The message has the file, and the line that failed."""
    rules = tmp_path / "rules.py"
    rules.write_text(text)

    with pytest.raises(RuleError) as raised:
        read_rules(rules)

    assert str(raised.value).startswith(f"{rules}{words}")


def test_a_file_of_rules_may_import_its_neighbours(tmp_path: Path) -> None:
    """Its folder is searched for modules, as that of a program is."""
    tmp_path.joinpath("acme_words.py").write_text("SOURCE = 'the manual'\n")
    rules = tmp_path / "rules.py"
    rules.write_text(
        "from acme_words import SOURCE\nfrom pytest_llmengine.contract import check\n\n"
        "@check('acme.rule', level='quirk', tier='core', source=SOURCE)\n"
        "def rule(target):\n    '''A rule.'''\n"
    )

    read_rules(rules)

    assert catalogue()["acme.rule"].source == "the manual"
    with pytest.raises(FileNotFoundError):
        read_rules(tmp_path / "other.py")


def test_an_assertion_of_a_rule_is_a_failure_and_one_of_a_library_is_not() -> None:
    """A user's rule may assert as a test does."""

    def plain(target: Target) -> None:
        """A rule."""
        assert target.model == "other"

    def with_words(target: Target) -> None:
        """A rule."""
        assert target.model == "other", "it is the wrong model"

    def elsewhere(target: Target) -> None:
        """A rule."""
        unittest.TestCase().fail("no")

    for name, run in (("plain", plain), ("words", with_words), ("else", elsewhere)):
        _add(f"acme.{name}", run)
    with Target("http://127.0.0.1:9/v1", "m") as target:
        results = [run_check(c, target, Profile("x")) for c in select(ids=["acme"])]

    assert [result.outcome for result in results] == [Outcome.FAIL, Outcome.FAIL, Outcome.ERROR]
    assert "other" in results[0].reason
    assert results[1].reason == "it is the wrong model"


def test_the_order_does_not_depend_on_imports() -> None:
    """A program that imports the rules of the last group first has the same catalogue."""
    program = (
        "import pytest_llmengine.contract.checks.usage\n"
        "from pytest_llmengine.contract.registry import groups\n"
        "print(*groups())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    shipped = [check.group for check in catalogue().values() if check.own_file is None]
    assert ran.stdout.split() == list(dict.fromkeys(shipped))
