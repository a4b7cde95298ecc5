"""Markers that the fixtures put on tests."""

from __future__ import annotations

import pytest

_TESTS = """
def test_plain(): pass
def test_mock(mock_engine): pass
def test_mock_server(mock_server): pass
def test_embedded(embedded_engine): pass
def test_ollama(ollama_engine): pass
def test_vllm(vllm_engine): pass
def test_openai(openai_engine): pass
def test_local(vllm_local_engine): pass
def test_aimed(engine): pass
"""


@pytest.mark.parametrize(
    ("marker", "engine", "selected"),
    [
        ("mock", "embedded", ["test_mock", "test_mock_server"]),
        ("mock", "mock", ["test_mock", "test_mock_server", "test_aimed"]),
        ("embedded", "mock", ["test_embedded"]),
        ("embedded", "embedded", ["test_embedded", "test_aimed"]),
        ("ollama", "mock", ["test_ollama"]),
        ("vllm", "vllm_api", ["test_vllm", "test_aimed"]),
        ("openai", "mock", ["test_openai"]),
        ("vllm_local", "mock", ["test_local"]),
        ("openai_compatible", "openai_compatible", ["test_aimed"]),
        ("ollama", "qwen", ["test_ollama", "test_aimed"]),
    ],
)
def test_marker_selects_and_engine_aims(
    pytester: pytest.Pytester, marker: str, engine: str, selected: list[str]
) -> None:
    """``-m`` selects tests by their engines, ``--engine`` decides what `engine` is."""
    pytester.makepyfile(_TESTS)
    entry = "- {name: qwen, backend: ollama_api, model: qwen2.5}\n"
    pytester.path.joinpath("engines.yaml").write_text(entry)

    result = pytester.runpytest_inprocess(
        "-m", marker, f"--engine={engine}", "--engine-config=engines.yaml", "--collect-only", "-q"
    )

    found = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert found == selected


def test_parametrised_engines_are_marked_one_by_one(pytester: pytest.Pytester) -> None:
    """If a test runs on two engines, ``-m`` can select one of the runs."""
    pytester.makepyfile("def test_it(engine): pass")

    result = pytester.runpytest_inprocess(
        "-m", "vllm", "--engine=mock", "--engine=vllm_api", "--collect-only", "-q"
    )

    result.stdout.fnmatch_lines(["*::test_it[[]vllm_api]", "*1/2 tests collected*"])


def test_fixture_behind_a_fixture(pytester: pytest.Pytester) -> None:
    """A test that uses an engine through the project's own fixture is marked too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def application(mock_engine):
            return mock_engine

        def test_it(application): pass
        """
    )

    pytester.runpytest_inprocess("-m", "mock").assert_outcomes(passed=1)


@pytest.mark.parametrize("marker", ["live", "docker", "gpu", "parity", "openai", "vllm_local"])
def test_markers_are_registered(pytester: pytest.Pytester, marker: str) -> None:
    """Every marker may be used with strict markers."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(): pass")

    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=1)
