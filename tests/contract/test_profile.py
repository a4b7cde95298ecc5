"""Profiles: their contents and their errors."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import pytest

from llmengine import Capability
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import (
    Deviation,
    ProfileError,
    load_profile,
    parse_profile,
    read_profile,
)
from pytest_llmengine.contract.registry import catalogue

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
engine = "tiny"
capabilities = ["streaming", "n"]

[[deviation]]
check = "err.shape"
outcome = "fail"
version = "tiny 1.0"
reason = "The error has no param."
link = "https://example.org/1"
depends_on = "--params"
"""
ROW = '[[deviation]]\ncheck = "err.shape"\nversion = "1"\nreason = "r"\n'


def test_a_profile_holds_claims_and_deviations() -> None:
    """The profile has everything in the file."""
    profile = parse_profile(GOOD, source="tiny.toml")
    assert profile.engine == "tiny"
    assert profile.capabilities == {Capability.STREAMING, Capability.N}
    assert profile.deviations == {
        "err.shape": Deviation(
            "err.shape",
            Outcome.FAIL,
            "tiny 1.0",
            "The error has no param.",
            "https://example.org/1",
            "--params",
        )
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engine = ", ["not TOML"]),
        ("color = 1", ["unknown key 'color'", "capabilities"]),
        ('capabilities = ["flying"]', ["capabilities", "flying", "streaming"]),
        ('capabilities = "n"', ["capabilities", "list"]),
        ('[deviation]\ncheck = "a"', ["[[deviation]]"]),
        ('[[deviation]]\ncheck = "a"', ["deviation 1", "'outcome' is missing"]),
        (f'{ROW}outcome = "fail"\ncolor = 1', ["deviation 1", "unknown key 'color'"]),
        (f'{ROW}outcome = "broken"', ["deviation 1", "'broken'", "ignored"]),
        (f'{ROW}outcome = "fail"\npackage = "openai"', ["deviation 1", "package", "openai>=2.1"]),
        (f'{ROW}outcome = "pass"', ["deviation 1", "'pass'", "ignored"]),
        (f'{ROW}outcome = "fail"\n{ROW}outcome = "fail"', ["deviation 2", "err.shape", "already"]),
    ],
)
def test_a_wrong_profile_says_where_and_what(text: str, words: list[str]) -> None:
    """The error has the file, the entry, the field and what would be right."""
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, source="tiny.toml")
    for word in ("tiny.toml", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(("package", "shows"), [("pytest>=8.0", True), ("pytest>=99.0", False)])
def test_a_deviation_may_show_with_one_version_of_a_client(package: str, shows: bool) -> None:
    """A deviation of a client library counts if that version is installed."""
    row = f'{ROW}outcome = "fail"\npackage = "{package}"'
    profile = parse_profile(row, source="tiny.toml")
    assert (profile.deviation("err.shape") is not None) is shows


def test_a_profile_of_the_users_own_is_read(tmp_path: Path) -> None:
    """A path to a file works like the name of a shipped profile."""
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD)
    assert read_profile(path) == parse_profile(GOOD, source="tiny.toml")


def test_an_engine_without_a_profile_claims_everything() -> None:
    """No deviation is accepted for such an engine."""
    profile = load_profile("nobody-knows-it")
    assert profile.capabilities == frozenset(Capability)
    assert profile.deviations == {}


SHIPPED = sorted(
    path.name.removesuffix(".toml")
    for path in (resources.files("pytest_llmengine.contract") / "profiles").iterdir()
    if path.name.endswith(".toml")
)


@pytest.mark.parametrize("engine", SHIPPED)
def test_a_shipped_profile_is_sound(engine: str) -> None:
    """A shipped profile names its engine, existing checks, and reasons in whole sentences."""
    profile = load_profile(engine)
    assert profile.engine == engine
    assert set(profile.deviations) <= set(catalogue())
    for deviation in profile.deviations.values():
        assert deviation.reason.endswith(".")
        assert not deviation.reason.endswith((" and.", " are.", " is.", " of.", "..."))
        assert deviation.version
