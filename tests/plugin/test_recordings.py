"""What a replay reports about unused recordings."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.mock import MockServer

_AIM = "--engine=openai_compatible"
TWO = """
def test_two(engine):
    for word in ("one", "two"):
        engine.generate([word])


def test_three(engine):
    engine.generate(["three"])
"""


@pytest.fixture
def project(pytester: pytest.Pytester, upstream: MockServer) -> pytest.Pytester:
    """A project whose two tests were recorded."""
    pytester.makeini("[pytest]\ntestpaths = .")
    pytester.makepyfile(test_words=TWO)
    url = f"--engine-url={upstream.base_url}"
    run = pytester.runpytest_inprocess(_AIM, url, "--engine-model=mock", "--engine-mode=record")
    run.assert_outcomes(passed=2)
    return pytester


def test_all_used(project: pytest.Pytester) -> None:
    """A run that plays everything reports nothing."""
    result = project.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*recordings not used*")


def test_request_not_made(project: pytest.Pytester) -> None:
    """A recorded request that the test does not make is reported with its file."""
    project.makepyfile(test_words=TWO.replace('"one", "two"', '"one",'))

    result = project.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_two.yaml: number 2, POST */chat/completions is recorded*"])


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_cassette_of_no_test(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A cassette whose test is gone is reported in a run of all tests."""
    project.makepyfile(test_words=TWO.partition("def test_three")[0])

    result = project.runpytest_subprocess(_AIM, *workers)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_three.yaml was not played by any test*"])


@pytest.mark.parametrize("narrowed", [("-k", "two"), ("test_words.py::test_two",)])
def test_part_of_the_tests(project: pytest.Pytester, narrowed: tuple[str, ...]) -> None:
    """A run of some tests cannot know whether the other cassettes are used."""
    result = project.runpytest_inprocess(_AIM, *narrowed)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*recordings not used*")


def test_failed_test(project: pytest.Pytester) -> None:
    """The requests that a failed test did not reach are not reported."""
    project.makepyfile(test_words=TWO.replace("engine.generate([word])", "assert word == 'two'"))

    result = project.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*recordings not used*")


def test_checks_of_another_run(project: pytest.Pytester) -> None:
    """The cassettes of the contract are not reported in a run of only the project's tests."""
    folder: Path = project.path / "cassettes" / "openai_compatible"
    shutil.copy(folder / "test_words" / "test_two.yaml", folder / "chat.basic.id_unique.yaml")

    result = project.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*recordings not used*")
