"""The comparison as tests: one per kind, from files and from live engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SUITE = "--pyargs", "pytest_llmengine.parity", "-p", "no:cacheprovider", "--import-mode=importlib"
PROMPTS = """
{"id": "a", "kind": "chat", "prompt": "Hi", "max_tokens": 4}
{"id": "b", "kind": "odd", "prompt": "Bye", "max_tokens": 4}
"""


@pytest.fixture
def saved(pytester: pytest.Pytester, upstream: MockServer) -> Path:
    """A baseline that was saved from a server."""
    prompts = pytester.makefile(".jsonl", prompts=PROMPTS)
    file = pytester.path / "saved.jsonl.gz"
    aim = ["--baseline", "vllm_api", "--baseline-url", upstream.base_url]
    assert main(["parity", *aim, "--prompts", str(prompts), "--save", str(file)]) == 0
    return file


def test_a_run_without_a_baseline_skips(pytester: pytest.Pytester) -> None:
    """The reason says what is needed."""
    result = pytester.runpytest_inprocess(*SUITE, "-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("*nothing to compare with: give --parity-baseline*")


def test_two_files_are_compared_kind_by_kind(pytester: pytest.Pytester, saved: Path) -> None:
    """There is one test per kind, without a server; paths start at the run's folder."""
    result = pytester.runpytest_inprocess(
        *SUITE,
        f"--parity-baseline={saved.name}",
        f"--parity-candidate={saved}",
        "-m",
        "parity",
        "-v",
    )

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_parity?chat? PASSED*", "*test_parity?odd? PASSED*"])


def test_an_engine_is_compared_with_a_file(
    pytester: pytest.Pytester, saved: Path, upstream: MockServer
) -> None:
    """The engine of the run is the candidate."""
    aim = "--engine=vllm_api", f"--engine-url={upstream.base_url}"

    result = pytester.runpytest_inprocess(*SUITE, f"--parity-baseline={saved}", *aim)

    result.assert_outcomes(passed=2)


def test_a_mismatch_fails_with_its_cause(pytester: pytest.Pytester, saved: Path) -> None:
    """The failure is the report of that kind, without frames of the plugin."""
    with MockServer(model="another") as other:
        aim = "--engine=vllm_api", f"--engine-url={other.base_url}"
        result = pytester.runpytest_inprocess(*SUITE, f"--parity-baseline={saved}", *aim)

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*cannot be compared: mismatch of model (mock / another*")
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_rate_is_shared_by_the_tests(
    pytester: pytest.Pytester, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two kinds has a half; the report of a test that passes is there on request."""
    sides = f"--parity-baseline={saved}", f"--parity-candidate={saved}"

    result = pytester.runpytest_inprocess(*SUITE, *sides, "--parity-alpha=0.03", "-rP")
    monkeypatch.setenv("LLMENGINE_PARITY_ALPHA", "3")
    wrong = pytester.runpytest_inprocess(*SUITE, *sides)

    result.stdout.fnmatch_lines("false alarms: at most 1.50% of runs*")
    wrong.stderr.fnmatch_lines("*LLMENGINE_PARITY_ALPHA is '3'; give a rate from 0.0001 to 0.5*")


def test_own_prompts_of_two_live_engines(pytester: pytest.Pytester) -> None:
    """The baseline may be live too, and prompts may come from a file."""
    prompts = pytester.makefile(".jsonl", prompts=PROMPTS)

    result = pytester.runpytest_inprocess(
        *SUITE, "--parity-baseline=mock", "--engine=mock", f"--parity-prompts={prompts}"
    )

    result.assert_outcomes(passed=2)


def test_the_ini_file_names_a_baseline_beside_itself(
    pytester: pytest.Pytester, saved: Path
) -> None:
    """A path in the ini file starts at the file's folder."""
    pytester.makeini("[pytest]\nllmengine_parity_baseline = saved.jsonl.gz\n")
    elsewhere = pytester.mkdir("elsewhere")

    result = pytester.runpytest_inprocess(
        *SUITE,
        f"--parity-candidate={saved}",
        f"--rootdir={pytester.path}",
        "-c",
        "tox.ini",
        str(elsewhere),
    )

    result.assert_outcomes(passed=2)


def test_a_file_that_is_wrong_ends_the_run(pytester: pytest.Pytester) -> None:
    """One line before any test."""
    result = pytester.runpytest_inprocess(*SUITE, "--parity-baseline=gone.jsonl")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*gone.jsonl*No such file*")
