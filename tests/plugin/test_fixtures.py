"""The fixtures of the plugin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmengine.mock import MockServer


def test_scripted_mock(pytester: pytest.Pytester) -> None:
    """`mock_server` sets the answers of `mock_engine` for one test."""
    pytester.makepyfile(
        """
        from llmengine.mock import Script

        def test_says_what_it_is_told(mock_engine, mock_server):
            mock_server.play(Script(replies=["Hi there"]))
            assert mock_engine.generate(["x"])[0].outputs[0].text == "Hi there"
            assert mock_server.calls[0].json["messages"][0]["content"] == "x"

        def test_starts_anew(mock_engine, mock_server):
            assert mock_engine.generate(["x"])[0].outputs[0].text != "Hi there"
            assert len(mock_server.calls) == 1
        """
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_mock_server_fails_a_test_that_does_not_use_it_as_scripted(
    pytester: pytest.Pytester,
) -> None:
    """Replies that are left and requests without one fail a test that passed; optional ones do not.

    The report of a test that failed for another reason says it too.
    """
    pytester.makepyfile(
        """
        from llmengine.mock import Script

        def test_by_content(mock_engine, mock_server):
            mock_server.when(contains="weather").reply("Sunny.")
            assert mock_engine.generate("The weather?")[0].outputs[0].text == "Sunny."

        def test_left(mock_server):
            mock_server.play(Script(["one"]))

        def test_optional(mock_server):
            mock_server.play(Script(["one"], optional=True))

        def test_hidden(mock_engine, mock_server):
            mock_server.when(contains="weather").reply("Sunny.", optional=True)
            mock_server.when(contains="time").reply("Noon.", optional=True)
            mock_server.when(contains="day").reply("Monday.")
            assert "no reply to this request" in str(mock_engine.results("Hello?")[0].error)
            mock_engine.generate("Which day?")

        def test_failed(mock_server):
            mock_server.play(Script(["two"]))
            assert "the test's own reason" == 3
        """
    )

    result = pytester.runpytest_inprocess("-rf")

    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "- Script: 1 of 1 replies were not asked for, the next is 'one'",
            "- POST /v1/chat/completions 'Hello?': no when(...) matches it",
            'E * assert "the test\'s own reason" == 3',
            "*- Captured mock server call -*",
            "- Script: 1 of 1 replies were not asked for, the next is 'two'",
        ]
    )


def test_several_engines(hello: pytest.Pytester) -> None:
    """A test with `engine` runs once for each engine of the run."""
    entries = (
        "- {name: small, backend: mock, model: a}\n- {name: large-1, backend: mock, model: b}\n"
    )
    hello.path.joinpath("engines.yaml").write_text(entries)

    result = hello.runpytest_inprocess(
        "-v", "--engine-config=engines.yaml", "--engine=small", "--engine=large-1"
    )

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "llmengine: small, live at * (a); tier extended",
            "llmengine: large-1, live at * (b); tier extended",
            "*::test_hello[[]small] PASSED*",
            "*::test_hello[[]large-1] PASSED*",
        ]
    )


def test_fixture_of_a_backend_means_the_engine_aimed_at(
    pytester: pytest.Pytester, upstream: MockServer
) -> None:
    """`vllm_engine` is the vLLM of the run, with its address."""
    entry = f"- {{name: h100, backend: vllm_api, model: mock, endpoint: '{upstream.root_url}'}}\n"
    pytester.path.joinpath("engines.yaml").write_text(entry)
    pytester.makepyfile("def test_it(vllm_engine): assert vllm_engine.name == 'h100'")

    result = pytester.runpytest_inprocess("--engine-config=engines.yaml")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("fixture", "variable"), [("ollama_engine", "OLLAMA_HOST"), ("vllm_engine", "VLLM_BASE_URL")]
)
def test_fixture_of_a_backend(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    upstream: MockServer,
    fixture: str,
    variable: str,
) -> None:
    """The fixture of a backend finds its server by the variable that users set anyway."""
    monkeypatch.setenv(variable, upstream.root_url)
    pytester.makepyfile(f"def test_it({fixture}): assert {fixture}.generate('x')[0].finished")

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_embedded_engine(pytester: pytest.Pytester, upstream: MockServer) -> None:
    """`embedded_engine` is the run's embedded engine, here played by another server."""
    pytester.makepyfile(
        "def test_it(embedded_engine): assert embedded_engine.generate('x')[0].finished"
    )
    aim = ("--engine=embedded", f"--engine-url={upstream.base_url}", "--engine-model=mock")

    pytester.runpytest_inprocess(*aim).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("fixture", "command"),
    [
        ("embedded_engine", "pip install 'pytest-llmengine[[]embedded]'"),
        ("openai_engine", "pip install 'pytest-llmengine[[]openai]'"),
        ("vllm_local_engine", "pip install 'pytest-llmengine[[]vllm]'"),
    ],
)
def test_backend_that_is_not_installed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fixture: str, command: str
) -> None:
    """A test that needs it fails with what to install, or is skipped if the run says so."""
    for package in ("openai", "xllamacpp"):
        monkeypatch.setitem(sys.modules, package, None)
    pytester.makepyfile(f"def test_it({fixture}): pass")

    failed = pytester.runpytest_inprocess("-rE")
    skipped = pytester.runpytest_inprocess("-rs", "--engine-missing=skip")

    failed.assert_outcomes(errors=1)
    failed.stdout.fnmatch_lines([f"*{command}*"])
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines([f"SKIPPED*{command}*"])


@pytest.mark.parametrize("fixture", ["engine", "vllm_engine", "llmengine_judge"])
def test_missing_server_on_a_laptop_and_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fixture: str
) -> None:
    """The project's setting skips the tests of a server that does not answer; CI lets them fail."""
    pytester.makeini("[pytest]\nllmengine_missing = skip\nllmengine_engine = vllm_api\n")
    pytester.makepyfile(
        f"""
        def test_it({fixture}):
            if "{fixture}" == "llmengine_judge":
                {fixture}(None)

        def test_other(mock_engine):
            pass
        """
    )

    laptop = pytester.runpytest_inprocess("-rs")
    monkeypatch.setenv("LLMENGINE_MISSING", "fail")
    ci = pytester.runpytest_inprocess()

    laptop.assert_outcomes(skipped=1, passed=1)
    laptop.stdout.fnmatch_lines(["SKIPPED*engine 'vllm_api' has neither an address nor a recor*"])
    assert ci.ret == pytest.ExitCode.USAGE_ERROR
    ci.stderr.fnmatch_lines(["*engine 'vllm_api' has neither an address nor a recording*"])


def test_wrong_engine_is_not_skipped(pytester: pytest.Pytester) -> None:
    """A mistake in a setting is not a missing engine."""
    pytester.makeini("[pytest]\nllmengine_missing = skip\nllmengine_engine = vlm_api\n")
    pytester.makepyfile("def test_it(engine): pass")

    assert pytester.runpytest_inprocess().ret == pytest.ExitCode.USAGE_ERROR


def test_embedded_engine_elsewhere_needs_no_extra(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: MockServer
) -> None:
    """With an address, and in a replay, the embedded engine starts no server."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    pytester.makepyfile(
        "def test_it(embedded_engine): assert embedded_engine.generate('x')[0].finished"
    )
    aim = ("--engine=embedded", f"--engine-url={upstream.base_url}", "--engine-model=mock")

    pytester.runpytest_inprocess(*aim, "--engine-mode=record").assert_outcomes(passed=1)
    pytester.runpytest_inprocess("--engine=embedded", "--engine-model=mock").assert_outcomes(
        passed=1
    )


def test_engine_that_is_not_installed_fails_the_run(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that asks for a missing `engine` does not succeed."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    result = hello.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["engine 'embedded' needs an extra: pip install *"])


def test_any_engine_by_name(pytester: pytest.Pytester) -> None:
    """`llmengine_use` opens engines whose names the test chooses."""
    pytester.makepyfile(
        """
        def test_it(llmengine_use):
            session = llmengine_use("mock")
            assert session is llmengine_use("mock")
            assert session.engine.generate(["x"])[0].finished
            assert session.mode == "live"
        """
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_foreign_client_at_base_url(hello: pytest.Pytester) -> None:
    """An application's own client uses ``engine.base_url``."""
    hello.makepyfile(
        """
        import httpx

        def test_it(engine):
            models = httpx.get(f"{engine.base_url}/models").json()["data"]
            assert [m["id"] for m in models] == [engine.model]
        """
    )

    hello.runpytest_inprocess("--engine=mock", "-k", "test_it").assert_outcomes(passed=1)


def test_own_fixture_of_the_same_name(pytester: pytest.Pytester) -> None:
    """A project's own fixture `engine`, such as a database's, is used."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def engine():
            return "sqlite://"

        def test_it(engine):
            assert engine == "sqlite://"
        """
    )

    result = pytester.runpytest_inprocess("--engine=mock", "--engine=embedded")

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("llmengine:*")
