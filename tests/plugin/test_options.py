"""Options, environment and ini file, and which of them wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract.registry import select
from pytest_llmengine.recording.network import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

_ENGINES = "- {name: small, backend: mock, model: from-file}\n"
_ASKS_MODEL = """
import os
def test_model(engine):
    assert engine.model == os.environ["EXPECTED"]
"""
_KEY = "sk-of-the-options-1234567890"
_NOTHING_LISTENS = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("arguments", "variable", "ini", "engine", "expected"),
    [
        (("--engine-model=cli",), "env", "ini", "mock", "cli"),
        ((), "env", "ini", "mock", "env"),
        ((), "", "ini", "mock", "ini"),
        ((), "", "", "mock", "mock"),
        (("--engine-config=engines.yaml",), "env", "ini", "small", "env"),
        (("--engine-config=engines.yaml",), "", "ini", "small", "from-file"),
    ],
)
def test_command_line_before_environment_before_ini(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    variable: str,
    ini: str,
    engine: str,
    expected: str,
) -> None:
    """The model comes from the first of these places that has one."""
    pytester.makepyfile(_ASKS_MODEL)
    pytester.path.joinpath("engines.yaml").write_text(_ENGINES)
    pytester.makeini(f"[pytest]\nllmengine_model = {ini}\n")
    monkeypatch.setenv("LLMENGINE_MODEL", variable)
    monkeypatch.setenv("EXPECTED", expected)

    result = pytester.runpytest_inprocess(f"--engine={engine}", *arguments)

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "variable", "ini", "expected"),
    [
        (("--engine=a",), "nope", "nope", "a"),
        ((), "a", "nope", "a"),
        ((), "b, a", "nope", "b a"),
        ((), "", "a", "a"),
        ((), "", "a b", "a b"),
        (("--engine=b", "--engine=a", "--engine=b"), "", "a", "b a"),
    ],
)
def test_engines_from_the_strongest_place(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    variable: str,
    ini: str,
    expected: str,
) -> None:
    """Names come from one place only, each once, in the given order."""
    entries = "- {name: a, backend: mock, model: a}\n- {name: b, backend: mock, model: b}\n"
    pytester.path.joinpath("engines.yaml").write_text(entries)
    pytester.makeini(f"[pytest]\nllmengine_engine = {ini}\nllmengine_config = engines.yaml\n")
    pytester.makepyfile("def test_it(engine): pass")
    monkeypatch.setenv("LLMENGINE_ENGINE", variable)

    result = pytester.runpytest_inprocess(*arguments)

    lines = [line.split() for line in result.outlines if line.startswith("llmengine:")]
    assert " ".join(words[1].rstrip(",") for words in lines) == expected


_OWN_OPTIONS = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--engine", type=int, default=2, help="cylinders")
    parser.addoption("--rewrite", action="store_true")
    parser.addoption("--shop", required=True)

@pytest.fixture
def cylinders(request):
    return request.config.getoption("--engine"), request.config.getoption("--rewrite")
"""


def test_own_options_of_these_names(pytester: pytest.Pytester) -> None:
    """A project's --engine and --rewrite win; ours have a longer name."""
    pytester.makeconftest(_OWN_OPTIONS)
    pytester.makepyfile(
        """
        def test_both(cylinders, engine, llmengine_name):
            assert cylinders == (8, True)
            assert llmengine_name == "mock"
        """
    )
    own = ("--shop=cars", "--engine=8", "--rewrite")

    result = pytester.runpytest_subprocess(*own, "--llmengine=mock", "--llmengine-rewrite")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("flag", ["--engine mock", "--engine=mock", "--llmengine mock"])
def test_names_of_the_option(hello: pytest.Pytester, flag: str) -> None:
    """The short flag works in a project that requires an option of its own, also from addopts."""
    hello.makeconftest("def pytest_addoption(parser): parser.addoption('--shop', required=True)")
    hello.makeini(f"[pytest]\naddopts = --shop=cars {flag}\n")

    hello.runpytest_subprocess("-n1").assert_outcomes(passed=1)


def test_help_lists_both_flags(pytester: pytest.Pytester) -> None:
    """The short flags are in the help, below the long ones."""
    result = pytester.runpytest_inprocess("--help")

    result.stdout.fnmatch_lines(["*--llmengine=NAME*", "*--engine=NAME*the same as --llmengine*"])


@pytest.mark.parametrize("place", ["command line", "environment"])
def test_folder_of_recordings_that_does_not_exist(
    hello: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    error_line: Callable[[pytest.RunResult], str],
    place: str,
) -> None:
    """A wrong folder does not make a live run of a replay; a recording creates the folder."""
    flag = ("--engine-cassettes=tests/casettes",) if place == "command line" else ()
    if not flag:
        monkeypatch.setenv("LLMENGINE_CASSETTES", "tests/casettes")

    line = error_line(hello.runpytest_inprocess("--engine=mock", *flag))
    recorded = hello.runpytest_inprocess("--engine=mock", "--engine-mode=record", *flag)

    assert f"there is no folder {hello.path / 'tests' / 'casettes'}" in line
    assert "--engine-mode=record" in line
    recorded.assert_outcomes(passed=1)
    hello.runpytest_inprocess("--engine=mock", *flag).assert_outcomes(passed=1)


@pytest.mark.parametrize("place", ["command line", "environment", "ini", "file"])
def test_address_from_the_strongest_place(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: MockServer, place: str
) -> None:
    """The addresses in the other places do not answer, and the run reaches the server."""
    places = ["command line", "environment", "ini", "file"]
    urls = dict.fromkeys(places[places.index(place) :], _NOTHING_LISTENS)
    urls[place] = upstream.base_url
    if "environment" in urls:
        monkeypatch.setenv("LLMENGINE_URL", urls["environment"])
    if place == "ini":
        hello.makeini(f"[pytest]\nllmengine_url = {urls['ini']}\n")
    endpoint = f", endpoint: '{urls['file']}'" if place != "ini" else ""
    entry = f"- {{name: mine, backend: openai_compatible, model: mock{endpoint}}}\n"
    hello.path.joinpath("engines.yaml").write_text(entry)
    arguments = [f"--engine-url={urls[place]}"] if place == "command line" else []

    result = hello.runpytest_inprocess("--engine=mine", "--engine-config=engines.yaml", *arguments)

    result.assert_outcomes(passed=1)


def test_backends_own_variable(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: MockServer
) -> None:
    """VLLM_BASE_URL is the address of vLLM, also against the project's default."""
    hello.makeini(f"[pytest]\nllmengine_engine = vllm_api\nllmengine_url = {_NOTHING_LISTENS}\n")
    monkeypatch.setenv("VLLM_BASE_URL", upstream.base_url)

    result = hello.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [f"llmengine: vllm_api, live at {upstream.base_url} (VLLM_BASE_URL), vLLM * (mock)*"]
    )


def test_server_anywhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_BASE_URL and VLLM_API_KEY are enough for a whole run against a server."""
    pytester.makepyfile(
        """
        import httpx

        def test_ours(engine):
            assert engine.generate("x")[0].finished

        def test_an_application(vllm_engine):
            key = {"Authorization": f"Bearer {vllm_engine.api_key}"}
            assert httpx.get(f"{vllm_engine.base_url}/models", headers=key).is_success
        """
    )
    with MockServer(api_key=_KEY) as server:
        monkeypatch.setenv("VLLM_BASE_URL", server.root_url)
        monkeypatch.setenv("VLLM_API_KEY", _KEY)
        ours = pytester.runpytest_inprocess("--engine=vllm_api")
        contract = pytester.runpytest_inprocess(
            "--pyargs", "pytest_llmengine.contract", "--engine=vllm_api", "-k", "chat.basic"
        )

    ours.assert_outcomes(passed=2)
    contract.assert_outcomes(passed=len(select(ids=["chat.basic"])))
    assert _KEY not in ours.stdout.str() + contract.stdout.str()


def test_key_alone_is_enough_for_openai(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI has one address, so OPENAI_API_KEY makes a run live; here nothing may leave."""
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", _KEY)

    with guarded() as guard:
        result = hello.runpytest_inprocess("--engine=openai", "--engine-model=gpt-9")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nothing answers at https://api.openai.com/v1" in result.stderr.str()
    assert any("api.openai.com" in refused for refused in guard.refused)


def test_recordings_go_before_a_key_alone(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: MockServer
) -> None:
    """A key in the shell does not make a recorded run cost money."""
    pytest.importorskip("openai")
    aim = ("--engine=openai", f"--engine-url={upstream.base_url}")
    hello.runpytest_inprocess(*aim, "--engine-mode=record").assert_outcomes(passed=1)
    monkeypatch.setenv("OPENAI_API_KEY", _KEY)

    result = hello.runpytest_inprocess("--engine=openai")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["llmengine: openai, replayed from OpenAI (mock)*"])


def test_address_alone_is_an_openai_compatible_server(
    hello: pytest.Pytester, upstream: MockServer
) -> None:
    """An address without a name means any server, whose only model is found."""
    result = hello.runpytest_inprocess(f"--engine-url={upstream.root_url}")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["llmengine: openai_compatible, live at *(mock); tier extended"])


@pytest.mark.parametrize("way", ["--engine=mock", "--llmengine=mock"])
def test_both_spellings(hello: pytest.Pytester, way: str) -> None:
    """The long spelling is for projects with another plugin that has the short one."""
    hello.runpytest_inprocess(way).assert_outcomes(passed=1)


def test_paths_of_the_ini_file_start_at_its_folder(pytester: pytest.Pytester) -> None:
    """A run from a subfolder finds the engines file of the ini file."""
    pytester.makeini("[pytest]\nllmengine_config = engines.yaml\nllmengine_engine = small\n")
    pytester.path.joinpath("engines.yaml").write_text(_ENGINES)
    folder = pytester.mkdir("below")
    folder.joinpath("test_it.py").write_text("def test_it(engine): assert engine.name == 'small'\n")
    pytester.chdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LLMENGINE_MODE", "alive", "it is one of live, record, replay, verify, docker"),
        ("LLMENGINE_TIER", "deep", "it is one of smoke, core, extended"),
        ("LLMENGINE_REWRITE", "perhaps", "write 1 or 0"),
    ],
)
def test_wrong_value_in_the_environment(
    hello: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    error_line: Callable[[pytest.RunResult], str],
    variable: str,
    value: str,
    words: str,
) -> None:
    """The error has the variable and what would be right."""
    monkeypatch.setenv(variable, value)

    line = error_line(hello.runpytest_inprocess())

    assert f"{variable} is {value!r}" in line
    assert words in line


def test_wrong_value_in_the_ini_file(
    hello: pytest.Pytester, error_line: Callable[[pytest.RunResult], str]
) -> None:
    """The error has the ini option."""
    hello.makeini("[pytest]\nllmengine_mode = alive\n")

    assert "ini option llmengine_mode is 'alive'" in error_line(hello.runpytest_inprocess())


def test_one_address_for_two_engines(
    hello: pytest.Pytester, error_line: Callable[[pytest.RunResult], str]
) -> None:
    """An address cannot belong to two engines."""
    result = hello.runpytest_inprocess(
        "--engine=mock", "--engine=vllm_api", "--engine-url=http://127.0.0.1:9"
    )

    assert "an address applies to one engine" in error_line(result)


def test_address_is_not_for_other_engines(pytester: pytest.Pytester, upstream: MockServer) -> None:
    """The run's address belongs to the run's engine, not to every fixture."""
    pytester.makepyfile("def test_it(ollama_engine): pass")

    result = pytester.runpytest_inprocess("--engine=mock", f"--engine-url={upstream.base_url}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["engine 'ollama_api' has neither an address nor *OLLAMA_API_URL*"])


def test_headers_reach_the_requests_of_the_engine_and_of_the_contract(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from the command line, or one per line from the environment."""
    suite = ("--pyargs", "pytest_llmengine.contract", "-k", "chat.basic.required_fields")
    with MockServer() as server:
        aim = ("--engine=openai_compatible", f"--engine-url={server.base_url}")
        headers = ("--engine-header=X-Team: search", f"--engine-header=X-Api-Key: {_KEY}")
        hello.runpytest_inprocess(*aim, *headers, "--engine-name=gate").assert_outcomes(passed=1)
        monkeypatch.setenv("LLMENGINE_HEADER", f"X-Team: search\nX-Api-Key: {_KEY}")
        result = hello.runpytest_inprocess(*aim, *suite, "--engine-report=r.json", "-v")
    result.assert_outcomes(passed=1)
    assert server.calls
    for call in server.calls:
        assert (call.headers.get("x-team"), call.headers.get("x-api-key")) == ("search", _KEY)
    assert _KEY not in result.stdout.str() + (hello.path / "r.json").read_text("utf-8")


def test_a_name_applies_to_one_engine(
    hello: pytest.Pytester, error_line: Callable[[pytest.RunResult], str]
) -> None:
    """With two engines, it is an error."""
    result = hello.runpytest_inprocess("--engine=mock", "--engine=embedded", "--engine-name=x")
    assert "--engine-name applies to one engine, but 2 are given" in error_line(result)
