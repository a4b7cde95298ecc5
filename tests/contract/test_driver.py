"""Checks with a driver, and the client libraries that drivers need."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract import Driver, Package, Target, Unmeasured, fail
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, Check
from pytest_llmengine.contract.runner import CheckResult, run_check
from pytest_llmengine.contract.target import HTTPExchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.contract.registry import CheckFunction

NOT_HERE = Package("no-such-client", (1, 2))


def test_an_installed_package_lacks_nothing() -> None:
    """A package that is installed and new enough can be used."""
    package = Package.parse("pytest>=8.0")
    assert package.missing == ""
    assert version("pytest").startswith(package.installed.removeprefix("pytest-"))


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (NOT_HERE, ["no-such-client>=1.2 is not installed", "pip install 'no-such-client>=1.2'"]),
        (Package("no-such-client", (1, 2), install="brew it"), ["is not installed: brew it"]),
        (Package("pytest", (99, 0)), [f"pytest {version('pytest')}", "pytest>=99.0"]),
    ],
    ids=["missing", "own command", "too old"],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: Package, words: list[str]
) -> None:
    """The reason says which version is needed, which is installed, and how to install it."""
    for word in words:
        assert word in package.missing


@pytest.mark.parametrize("text", ["openai", ">=2.1", "openai>=new", "openai==2.1"])
def test_only_a_minimum_version_is_read(text: str) -> None:
    """A package is written as its name and its minimum version."""
    with pytest.raises(ValueError, match=r"openai|new|=2"):
        Package.parse(text)


class Recorder(Driver):
    """Records the calls that it gets."""

    events: list[str]

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        Recorder.events = ["opened"]

    def models(self) -> int:
        """Ask the target by other means than the target itself."""
        Recorder.events.append("used")
        return self.target.get("/models").status

    def close(self) -> None:
        """Note that it is closed."""
        Recorder.events.append("closed")


@pytest.fixture
def target() -> Iterator[Target]:
    """The mock server as a target."""
    with MockServer() as server, Target(server.base_url, server.model) as target:
        yield target


def _run(target: Target, run: CheckFunction, driver: type[Driver]) -> CheckResult:
    check = Check("x.y", run, QUIRK, EXTENDED, "test", driver=driver)
    return run_check(check, target, Profile("x"))


def test_a_check_gets_its_driver_which_is_closed_after_it(target: Target) -> None:
    """The driver takes the place of the target, and is made for one check."""

    def run(driver: Recorder) -> None:
        assert driver.models() == 200

    result = _run(target, run, Recorder)

    assert (result.outcome, result.reason) == (Outcome.PASS, "")
    assert [exchange.path for exchange in result.exchanges] == ["/models"]
    assert Recorder.events == ["opened", "used", "closed"]


def test_a_driver_is_closed_after_a_check_that_fails(target: Target) -> None:
    """The verdict of the check stands."""

    def run(driver: Recorder) -> None:
        fail("no")

    assert _run(target, run, Recorder).outcome is Outcome.FAIL
    assert Recorder.events == ["opened", "closed"]


def test_a_driver_that_cannot_be_made_ends_the_check(target: Target) -> None:
    """A driver may end the check as unmeasured; any other error is not a verdict."""

    class Picky(Driver):
        def __init__(self, target: Target) -> None:
            super().__init__(target)
            raise Unmeasured("no grammar here")

    class Broken(Driver):
        def __init__(self, target: Target) -> None:
            raise KeyError(target.model)

    def run(driver: Driver) -> None:
        raise AssertionError("it has no driver")

    result = _run(target, run, Picky)
    assert (result.outcome, result.reason) == (Outcome.UNMEASURED, "no grammar here")
    assert _run(target, run, Broken).outcome is Outcome.ERROR


def test_a_check_without_the_package_of_its_driver_is_unmeasured(target: Target) -> None:
    """There is no verdict on the server and no request, and the run goes on."""

    class Undriven(Recorder):
        package = NOT_HERE

    result = _run(target, lambda driver: driver.models(), Undriven)

    assert (result.outcome, result.reason) == (Outcome.UNMEASURED, NOT_HERE.missing)
    assert (result.failed, result.exchanges) == (False, ())


def test_recordings_of_a_driver_are_in_a_folder_of_its_own_if_it_names_one() -> None:
    """Without a package, there is one recording for all; a driver may choose another name."""

    class Named(Driver):
        package = Package("pytest", (8, 0))

    class Chosen(Driver):
        @classmethod
        def recordings(cls) -> str:
            return "grpc"

    def cassette(driver: type[Driver]) -> str:
        return Check("x.y", lambda _: None, QUIRK, EXTENDED, "test", driver=driver).cassette

    assert cassette(Recorder) == "x.y"
    major, minor, *_ = version("pytest").split(".")
    assert cassette(Named) == f"pytest-{major}.{minor}/x.y"
    assert cassette(Chosen) == "grpc/x.y"


def test_status_that_a_driver_notes_is_a_plain_number() -> None:
    """Reports are sent between processes, which an enum such as HTTPStatus would break."""
    exchange = HTTPExchange("POST", "/chat/completions", "{}", HTTPStatus.OK, {}, "{}", 0.0)

    assert type(exchange.status) is int
