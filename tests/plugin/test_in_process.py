"""The plugin with an engine that has no server."""

from __future__ import annotations

import pytest


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, stand_in: object
) -> pytest.Pytester:
    """A project with a test of vLLM in this process, and a model for it."""
    monkeypatch.setenv("LLMENGINE_VLLM_MODEL", "counting")
    pytester.makepyfile(
        """
        def test_it(vllm_local_engine):
            outputs = vllm_local_engine.generate("x", {"max_tokens": 2})
            assert outputs[0].outputs[0].text == "one two "
        """
    )
    return pytester


def test_the_fixture_answers(project: pytest.Pytester) -> None:
    """With and without ``--engine``; the header says where the answers come from."""
    project.runpytest_inprocess("-m", "vllm_local").assert_outcomes(passed=1)
    result = project.runpytest_inprocess("--engine=vllm_local")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["llmengine: vllm_local, in this process, vLLM*(counting); *"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine-mode=replay"], "there is no mode replay"),
        (["--engine-mode=record"], "there is no mode record"),
        (["--engine-url=http://127.0.0.1:1"], "the address http://127.0.0.1:1 cannot be used"),
    ],
)
def test_what_needs_a_server_is_refused(
    options: list[str], said: str, project: pytest.Pytester
) -> None:
    """One line before any test."""
    result = project.runpytest_inprocess("--engine=vllm_local", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*runs in this process and has no server; {said}"])


def test_a_model_has_to_be_named(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server to ask for one."""
    monkeypatch.delenv("LLMENGINE_VLLM_MODEL")
    result = project.runpytest_inprocess("--engine=vllm_local")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*give --engine=vllm_local --engine-model=MODEL or set LLMENGINE_VLLM_MODEL"]
    )


def test_the_contract_has_nothing_to_talk_to(project: pytest.Pytester) -> None:
    """Its checks are skipped with the reason, not failed one by one."""
    options = ("--engine=vllm_local", "--engine-tier=smoke", "-rs")
    result = project.runpytest_inprocess("--pyargs", "pytest_llmengine.contract", *options)
    assert set(result.parseoutcomes()) == {"skipped"}
    result.stdout.fnmatch_lines(["*the contract is about HTTP*"])
