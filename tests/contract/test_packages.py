"""Checks that drive a client library which may be missing, or be too old."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, Check, Package
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target

NOT_HERE = Package("no-such-client", (1, 2))


def test_a_package_that_is_here_lacks_nothing() -> None:
    """What is installed and new enough can be driven."""
    package = Package.parse("pytest>=8.0")
    assert package.missing == ""
    assert version("pytest").startswith(package.installed.removeprefix("pytest-"))


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (NOT_HERE, ["no-such-client>=1.2 is not installed", "[no-such-client]"]),
        (Package("pytest", (99, 0)), ["pytest 9", "pytest>=99.0", "pip install"]),
    ],
    ids=["missing", "too old"],
)
def test_what_is_missing_is_said_with_the_way_to_get_it(package: Package, words: list[str]) -> None:
    """The reason names what is wanted, what is here, and the command."""
    if package.name == "pytest":
        words[0] = f"pytest {version('pytest')}"
    for word in words:
        assert word in package.missing


@pytest.mark.parametrize("text", ["dspy", ">=3.4", "dspy>=new", "dspy==3.4"])
def test_only_a_lower_bound_is_read(text: str) -> None:
    """A package is written with its name and the version from which on it is meant."""
    with pytest.raises(ValueError, match=r"dspy|new|=3"):
        Package.parse(text)


def test_a_check_without_its_package_is_unmeasured() -> None:
    """No verdict on the server, no request, and the run goes on."""

    def run(target: Target) -> None:
        target.get("/models")

    check = Check("x.y", run, QUIRK, EXTENDED, "test", package=NOT_HERE)
    with Target("http://127.0.0.1:9/v1", "m") as target:
        result = run_check(check, target, Profile("x"))
    assert (result.outcome, result.reason) == (Outcome.UNMEASURED, NOT_HERE.missing)
    assert (result.failed, result.exchanges) == (False, ())
