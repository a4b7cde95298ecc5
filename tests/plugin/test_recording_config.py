"""A project's own configuration of recordings, by the hook and by the fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_AIM = "--engine=openai_compatible"
_ASK = """
def test_ask(engine):
    assert engine.generate(["{}"], extra_body={{"metadata": {{"sent_at": "{}"}}}})
"""


@pytest.fixture
def file(pytester: pytest.Pytester) -> Path:
    """The cassette of the test `test_ask`."""
    return pytester.path / "cassettes" / "openai_compatible" / "test_it" / "test_ask.yaml"


_IN_HOOK = "def pytest_llmengine_recording_config(config): return {}"
_IN_FIXTURE = """
import pytest

@pytest.fixture(scope="module")
def llmengine_recording_config(): return {}
"""


@pytest.mark.parametrize("way", [_IN_HOOK, _IN_FIXTURE], ids=["hook", "fixture"])
def test_redaction_and_matching(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult], file: Path, way: str
) -> None:
    """What is redacted is not in the file, and what is ignored keeps no request from its answer."""
    options = """{
        "redact": lambda text: text.replace("Ada", "someone"),
        "redact_paths": ["$.choices[*].message.content"],
        "ignore_paths": ["$.metadata.sent_at"],
    }"""
    pytester.makeconftest(way.replace("{}", options))
    pytester.makepyfile(test_it=_ASK.format("I am Ada", "10:00"))
    record().assert_outcomes(passed=1)
    assert "I am someone" in file.read_text()
    assert "Ada" not in file.read_text()
    assert '"content":"[redacted]"' in file.read_text()

    pytester.makepyfile(test_it=_ASK.format("I am Ada", "11:00"))
    pytester.runpytest_inprocess(_AIM).assert_outcomes(passed=1)

    pytester.makepyfile(test_it=_ASK.format("I am Bob", "11:00"))
    pytester.runpytest_inprocess(_AIM).assert_outcomes(failed=1)


def test_rewrite_redacts_too(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult], file: Path
) -> None:
    """A cassette that is recorded again is redacted by what the project says now."""
    pytester.makepyfile(test_it=_ASK.format("I am Ada", "10:00"))
    record().assert_outcomes(passed=1)
    assert "Ada" in file.read_text()

    pytester.makeconftest(_IN_HOOK.replace("{}", '{"redact_paths": ["$.messages[*].content"]}'))
    record("--rewrite").assert_outcomes(passed=1)

    assert "Ada" not in file.read_text()


def test_fixture_adds_to_the_hook(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult], file: Path
) -> None:
    """Redactions add up, so that no test takes back what the project redacts."""
    pytester.makeconftest(_IN_HOOK.replace("{}", '{"redact": lambda t: t.replace("Ada", "A")}'))
    module = _IN_FIXTURE.replace("{}", '{"redact": lambda t: t.replace("Bob", "B")}')
    pytester.makepyfile(test_it=module + _ASK.format("Ada and Bob", "10:00"))

    record().assert_outcomes(passed=1)

    assert "A and B" in file.read_text()


@pytest.mark.parametrize(
    ("fixture", "variable", "backend"),
    [
        ("ollama_engine", "OLLAMA_HOST", "ollama_api"),
        ("vllm_engine", "VLLM_BASE_URL", "vllm_api"),
    ],
)
def test_fixture_of_a_backend(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    fixture: str,
    variable: str,
    backend: str,
) -> None:
    """The engines of all fixtures are recorded and replayed with the project's options."""
    options = '{"redact_paths": ["$.messages[*].content"]}'
    pytester.makeconftest(_IN_FIXTURE.replace("{}", options))
    test = "def test_it({0}): assert {0}.generate('I am {1}')"
    pytester.makepyfile(test_it=test.format(fixture, "Ada"))
    with MockServer() as server, monkeypatch.context() as patch:
        patch.setenv(variable, server.root_url)
        pytester.runpytest_inprocess("--engine-mode=record").assert_outcomes(passed=1)
    (file,) = (pytester.path / "cassettes" / backend).rglob("test_it.yaml")
    assert "Ada" not in file.read_text()

    pytester.makepyfile(test_it=test.format(fixture, "Bob"))
    pytester.runpytest_inprocess("--engine-mode=replay").assert_outcomes(passed=1)


def test_rechunked_stream(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """A test asks for the pieces in which its client gets a recorded stream, by a parameter."""
    test = """
        import httpx
        import pytest

        BODY = {"model": "mock", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        CUTS = [{}, {"rechunk": "bytes"}, {"rechunk": "whole"}, {"rechunk": 100}]
        IDS = ["recorded", "bytes", "whole", "size"]

        @pytest.mark.llmengine_cassette("stream")
        @pytest.mark.parametrize("llmengine_recording_config", CUTS, ids=IDS)
        def test_it(engine, llmengine_recording_config):
            url = engine.base_url + "/chat/completions"
            with httpx.stream("POST", url, json=BODY) as answer:
                sizes = [len(piece) for piece in answer.iter_raw()]
            how = llmengine_recording_config.get("rechunk")
            if how == "bytes":
                assert set(sizes) == {1}
            elif how == "whole":
                assert len(sizes) == 1
            elif how == 100:
                assert set(sizes[:-1]) == {100}
            else:
                assert len(sizes) > 3
    """
    pytester.makepyfile(test_it=test)
    record("-k", "recorded").assert_outcomes(passed=1, deselected=3)

    pytester.runpytest_inprocess(_AIM).assert_outcomes(passed=4)


def test_recorded_timing_on_a_clock_of_the_project(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult], file: Path
) -> None:
    """Recorded times are played on the project's clock, faster by the speed."""
    pytester.makepyfile(test_it=_ASK.format("Hello", "10:00"))
    record().assert_outcomes(passed=1)
    document = yaml.safe_load(file.read_text())
    document["interactions"][-1]["response"]["llmengine"] |= {"head_ms": 60_000, "at_ms": [600_000]}
    file.write_text(yaml.safe_dump(document))
    module = """
        import pytest

        class Clock:
            now, slept = 0.0, []

            def time(self):
                return self.now

            async def sleep(self, seconds):
                self.slept.append(round(seconds))
                self.now += seconds

        @pytest.fixture
        def llmengine_recording_config():
            return {"timing": "recorded", "speed": 10, "clock": Clock()}

        def test_ask(engine):
            assert engine.generate(["Hello"], extra_body={"metadata": {"sent_at": "10:00"}})
            assert Clock.slept == [6, 54]
    """
    pytester.makepyfile(test_it=module)

    pytester.runpytest_inprocess(_AIM).assert_outcomes(passed=1)


def test_contract_is_recorded_by_the_hook_s_options(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """The cassettes of the contract's checks are redacted too, and replay with what is ignored."""
    options = '{"redact_paths": ["$.choices[*].message.content"], "ignore_paths": ["$.max_tokens"]}'
    pytester.makeconftest(_IN_HOOK.replace("{}", options))
    suite = ("--pyargs", "pytest_llmengine.contract", "-k", "chat.basic.required_fields")

    assert record(*suite).parseoutcomes()["passed"] == 1

    (file,) = (pytester.path / "cassettes").rglob("chat.basic.required_fields.yaml")
    text = file.read_text()
    assert "[redacted]" in text
    file.write_text(text.replace('"max_tokens": 16', '"max_tokens": 17'))
    assert pytester.runpytest_inprocess(_AIM, *suite).parseoutcomes()["passed"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"ignore_path": []}', "'ignore_path' is not a recording option; did you mean 'ignore_"),
        ("['$.a']", "recording options are a dict such as {'ignore_paths': ['$.user']}, not list"),
    ],
)
def test_wrong_options_of_the_hook(
    hello: pytest.Pytester,
    error_line: Callable[[pytest.RunResult], str],
    options: str,
    message: str,
) -> None:
    """The run ends before any test, with one line that names the hook and its file."""
    hello.makeconftest(_IN_HOOK.replace("{}", options))

    line = error_line(hello.runpytest_inprocess("--engine=mock"))

    assert line.startswith("ERROR: pytest_llmengine_recording_config (")
    assert f"conftest.py): {message}" in line


def test_wrong_options_of_the_fixture(hello: pytest.Pytester) -> None:
    """The tests that use it fail in one line, also when their engine is live."""
    hello.makeconftest(_IN_FIXTURE.replace("{}", '{"speed": 0}'))

    result = hello.runpytest_inprocess("--engine=mock")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["fixture llmengine_recording_config: speed: is 0; give a number above 0"]
    )
    assert "Traceback" not in result.stdout.str()


def test_hook_in_a_folder_below(hello: pytest.Pytester) -> None:
    """A hook that comes too late would redact nothing; the tests say so instead."""
    folder = hello.mkdir("below")
    folder.joinpath("conftest.py").write_text(_IN_HOOK)
    folder.joinpath("test_below.py").write_text("def test_it(engine): pass")
    hello.makeini("[pytest]\nllmengine_engine = mock")

    result = hello.runpytest_inprocess()

    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*below*conftest.py implements pytest_llmengine_recording_config, but pytest loaded it*"]
    )


def test_fixture_is_shown(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` says what the fixture is for."""
    result = pytester.runpytest_inprocess("--fixtures", "-v")

    result.stdout.fnmatch_lines(
        [
            "llmengine_recording_config*",
            "    Options for recordings and replays, as a dict; a project overrides this fixture.",
        ]
    )


def test_transport_of_the_project(pytester: pytest.Pytester, upstream: MockServer) -> None:
    """A transport of the project's own, named in an engines file, carries an engine's requests."""
    entry: dict[str, Any] = {
        "name": "e",
        "backend": "openai_compatible",
        "model": "mock",
        "endpoint": upstream.base_url,
        "transport": "mine",
    }
    pytester.path.joinpath("engines.yaml").write_text(yaml.safe_dump([entry]))
    pytester.makeconftest(
        """
        from llmengine.transport.httpx_transport import HttpxTransport

        class Mine(HttpxTransport):
            sent = []

            async def fetch(self, request):
                self.sent.append(request.url)
                return await super().fetch(request)

        def pytest_llmengine_transports(config):
            return {"mine": Mine}
        """
    )
    pytester.makepyfile(
        """
        from conftest import Mine

        def test_it(engine):
            before = len(Mine.sent)
            assert engine.generate("hi")[0].outputs[0].text
            assert Mine.sent[before:] == [engine.base_url + "/chat/completions"]
        """
    )

    for _ in range(2):  # the name is free again after the run
        result = pytester.runpytest_inprocess("--engine-config=engines.yaml", "--engine=e")
        result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ('{"httpx": object}', "there is a transport 'httpx' already; use another name"),
        ('{"mine": "text"}', "transport 'mine' is 'text'; give a class or a function"),
        ('["mine"]', "returned ['mine']; return a dict from names to factories"),
    ],
)
def test_wrong_transports(
    hello: pytest.Pytester,
    error_line: Callable[[pytest.RunResult], str],
    returned: str,
    message: str,
) -> None:
    """The run ends before any test, with one line that names the hook and its file."""
    hello.makeconftest(f"def pytest_llmengine_transports(config): return {returned}")

    line = error_line(hello.runpytest_inprocess("--engine=mock"))

    assert line.startswith("ERROR: pytest_llmengine_transports (")
    assert message in line
