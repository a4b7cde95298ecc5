"""Fixtures that a project makes with `pytest_llmengine.fixtures`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from llmengine.mock import MockServer

_ENGINES = """
from pytest_llmengine.fixtures import engine_fixture

index = engine_fixture(scope="session")
judge = engine_fixture("mock", model="large", scope="module")
"""


def test_engines_of_wider_scopes(pytester: pytest.Pytester) -> None:
    """Each fixture has its own model and cassette, beside those of the test."""
    pytester.makeconftest(_ENGINES)
    pytester.makepyfile(
        test_one="""
        import pytest

        @pytest.fixture(scope="session")
        def summary(index):
            return index.generate("Summarise the corpus.")[0].outputs[0].text

        def test_answer(summary, engine, judge):
            answer = engine.generate(f"Use {summary}")[0].outputs[0].text
            assert judge.model == "large"
            assert judge.generate(f"Is {answer} right?")[0].finished

        def test_again(summary, judge):
            assert summary
        """,
        test_two="def test_other(index): assert index.model == 'mock'",
    )

    recorded = pytester.runpytest_inprocess("--engine=mock", "--engine-mode=record")
    replayed = pytester.runpytest_inprocess("--engine=mock", "--engine-mode=replay")

    recorded.assert_outcomes(passed=3)
    replayed.assert_outcomes(passed=3)
    folder = pytester.path / "cassettes" / "mock"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml")) == [
        "session/index.yaml",
        "test_one/judge.yaml",
        "test_one/test_answer.yaml",
    ]


def test_unrecorded_request_of_a_wider_fixture_fails_the_run(pytester: pytest.Pytester) -> None:
    """A replay fails at the end of the fixture, even if the client hides the error."""
    pytester.makeconftest(_ENGINES)
    test = "def test_it(index): assert index.results('{}')"
    pytester.makepyfile(test_it=test.format("Hello"))
    pytester.runpytest_inprocess("--engine=mock", "--engine-mode=record").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=test.format("Something else"))

    replayed = pytester.runpytest_inprocess("--engine=mock", "--engine-mode=replay")

    replayed.assert_outcomes(passed=1, errors=1)
    replayed.stdout.fnmatch_lines(["*mock: to record *session/index.yaml again: pytest *"])


def test_failed_test_of_a_wider_fixture_replaces_no_recording(pytester: pytest.Pytester) -> None:
    """An earlier recording stays as it is, and the report names the new answers."""
    pytester.makeconftest(_ENGINES)
    test = """
    def test_first(index): assert index.generate('{}')
    def test_second(index): assert {}
    """
    pytester.makepyfile(test_it=test.format("Hello", True))
    pytester.runpytest_inprocess("--engine=mock", "--engine-mode=all").assert_outcomes(passed=2)
    file = pytester.path / "cassettes" / "mock" / "session" / "index.yaml"
    recorded = file.read_bytes()
    pytester.makepyfile(test_it=test.format("Bye", False))

    result = pytester.runpytest_inprocess("--engine=mock", "--engine-mode=all")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*index.yaml was not changed*index.yaml.part*"])
    assert file.read_bytes() == recorded
    assert b"Bye" in file.with_suffix(".yaml.part").read_bytes()


def test_several_engines_in_a_session_fixture(pytester: pytest.Pytester) -> None:
    """The run's engine of a wide fixture is each of the engines in turn."""
    entries = "- {name: a, backend: mock, model: a}\n- {name: b, backend: mock, model: b}\n"
    pytester.path.joinpath("engines.yaml").write_text(entries)
    pytester.makeconftest(_ENGINES)
    pytester.makepyfile("def test_it(index, engine): assert index.model == engine.model")

    result = pytester.runpytest_inprocess(
        "--engine-config=engines.yaml", "--engine=a", "--engine=b"
    )

    result.assert_outcomes(passed=2)


def test_mock_server_with_a_key_and_a_script(pytester: pytest.Pytester) -> None:
    """One server serves a module, with the model, key and behaviour of the fixture."""
    pytester.makeconftest(
        """
        from llmengine.mock import Script
        from pytest_llmengine.fixtures import mock_engine_fixture, mock_server_fixture

        llm_server = mock_server_fixture(
            model="gpt-4o", api_key="sk-test", script=Script(replies=["Hi"] * 2), scope="module"
        )
        llm = mock_engine_fixture("llm_server", api_key="sk-test", scope="module")
        stranger = mock_engine_fixture("llm_server")
        """
    )
    pytester.makepyfile(
        """
        from llmengine import AuthenticationError

        def test_first(llm):
            assert llm.model == "gpt-4o"
            assert llm.generate("x")[0].outputs[0].text == "Hi"

        async def ask(engine):
            return await engine.aresults("x")

        def test_second(llm, llm_server, stranger):
            import asyncio

            assert asyncio.run(ask(llm))[0].output.outputs[0].text == "Hi"
            assert len(llm_server.calls) == 2
            (result,) = stranger.results("x")
            assert isinstance(result.error, AuthenticationError)
        """
    )

    pytester.runpytest_inprocess("-m", "mock").assert_outcomes(passed=2)


def test_key_of_a_fixture(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: MockServer
) -> None:
    """A fixture reads its key from a variable of its own, and `-m` selects its tests."""
    monkeypatch.setenv("VLLM_BASE_URL", upstream.base_url)
    monkeypatch.setenv("JUDGE_KEY", "sk-of-the-judge")
    pytester.makeconftest(
        """
        from pytest_llmengine.fixtures import engine_fixture

        judge = engine_fixture("vllm", model="mock", api_key_env="JUDGE_KEY")
        """
    )
    pytester.makepyfile(
        """
        def test_it(judge):
            assert judge.generate("x")[0].finished

        def test_other():
            pass
        """
    )

    pytester.runpytest_inprocess("-m", "vllm").assert_outcomes(passed=1, deselected=1)

    keys = {call.headers.get("authorization") for call in upstream.calls}
    assert "Bearer sk-of-the-judge" in keys


def test_reply_that_was_not_asked_for_fails_the_end_of_a_server(pytester: pytest.Pytester) -> None:
    """The tests of a module use all replies of its server."""
    pytester.makeconftest(
        """
        from llmengine.mock import Script
        from pytest_llmengine.fixtures import mock_engine_fixture, mock_server_fixture

        llm_server = mock_server_fixture(script=Script(replies=["Hi", "Bye"]), scope="module")
        llm = mock_engine_fixture("llm_server", scope="module")
        """
    )
    pytester.makepyfile("def test_it(llm): assert llm.generate('x')[0].finished")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Bye*"])
