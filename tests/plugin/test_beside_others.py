"""The plugin in other processes: with other plugins, switched off, and unused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.contract.registry import Tier, select

if TYPE_CHECKING:
    from llmengine.mock import MockServer

_SUITE = ("--pyargs", "pytest_llmengine.contract")
_HEAVY = ["httpx", "aiohttp", "vcr", "yaml", "starlette", "pydantic", "rich", "jsonschema"]
# Other plugins that are installed here import some of these themselves.
_OTHERS = ("recording", "respx", "pytest_httpx", "pytest_httpx2", "anyio", "xdist")
_ALONE = tuple(word for name in _OTHERS for word in ("-p", f"no:{name}"))


def test_unused_plugin_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    """A project that does not use the plugin pays only for its options and markers."""
    pytester.makepyfile(
        f"""
        import sys

        def test_it(request):
            assert request.config.pluginmanager.hasplugin("llmengine")
            assert not [name for name in {_HEAVY} if name in sys.modules]
            assert "llmengine" not in sys.modules
        """
    )

    result = pytester.runpytest_subprocess(*_ALONE)

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("llmengine:*")


def test_import_of_the_plugin_is_light(pytester: pytest.Pytester) -> None:
    """Importing the plugin's module imports no client, recorder or server."""
    script = pytester.makepyfile(
        f"""
        import sys
        import pytest_llmengine.plugin
        print(sorted(name for name in {_HEAVY} if name in sys.modules))
        """
    )

    assert pytester.runpython(script).outlines == ["[]"]


def test_switched_off(pytester: pytest.Pytester) -> None:
    """With ``-p no:llmengine`` there are no options, and other tests run."""
    pytester.makepyfile("def test_it(): pass")

    pytester.runpytest_subprocess("-p", "no:llmengine").assert_outcomes(passed=1)
    refused = pytester.runpytest_subprocess("-p", "no:llmengine", "--engine=mock")
    refused.stderr.fnmatch_lines(["*unrecognized arguments: --engine=mock*"])


def test_workers(pytester: pytest.Pytester) -> None:
    """The controller has the results of all workers, in the order of the catalogue."""
    result = pytester.runpytest_subprocess(
        *_SUITE, "--engine=mock", "--engine-tier=smoke", "--engine-report=report.json", "-n2"
    )

    smoke = [check.id for check in select(tier=Tier.SMOKE)]
    result.assert_outcomes(passed=len(smoke))
    result.stdout.fnmatch_lines([f"{len(smoke)} checks: {len(smoke)} pass; all accepted"])
    report = json.loads((pytester.path / "report.json").read_text())
    assert [row["id"] for row in report["checks"]] == smoke


def test_workers_replay(hello: pytest.Pytester, upstream: MockServer) -> None:
    """Workers replay what one process recorded."""
    aim = "--engine=openai_compatible"
    url = f"--engine-url={upstream.base_url}"
    hello.makepyfile(test_more="def test_more(engine): engine.generate(['x'])")
    hello.runpytest_inprocess(aim, url, "--engine-mode=record").assert_outcomes(passed=2)

    hello.runpytest_subprocess(aim, "-n2").assert_outcomes(passed=2)


def test_workers_say_where_answers_come_from(hello: pytest.Pytester) -> None:
    """With several workers there is one line per engine, as without workers."""
    hello.makepyfile(test_more="def test_more(engine): engine.generate(['x'])")

    result = hello.runpytest_subprocess("--engine=mock", "-n2")
    quiet = hello.runpytest_subprocess("--engine=mock", "-n2", "-q")

    result.assert_outcomes(passed=2)
    lines = [line for line in result.outlines if line.startswith("llmengine: ")]
    assert [line.split(" at ")[0] for line in lines] == ["llmengine: mock, live"]
    quiet.stdout.no_fnmatch_line("llmengine: *")


_BESIDE_A_MOCK = """
import httpx

def test_rain({fixtures}):
    {mock}
    assert httpx.get("http://weather.invalid").json() == {{"rain": True}}
    assert engine.generate("It rains.")[0].finished
"""


@pytest.mark.parametrize(
    ("fixtures", "mock"),
    [
        ("respx_mock, engine", 'respx_mock.get("http://weather.invalid").respond(json=RAIN)'),
        ("httpx_mock, engine", "httpx_mock.add_response(json=RAIN)"),
    ],
)
def test_mocks_of_httpx_beside(pytester: pytest.Pytester, fixtures: str, mock: str) -> None:
    """An engine is recorded and replayed, in workers too, in a test that mocks another service."""
    mock = mock.replace("RAIN", '{"rain": True}')
    pytester.makepyfile(_BESIDE_A_MOCK.format(fixtures=fixtures, mock=mock))

    recorded = pytester.runpytest_subprocess("--engine=mock", "--engine-mode=record", "-n1")
    replayed = pytester.runpytest_subprocess("--engine=mock", "--engine-mode=replay", "-n1")

    recorded.assert_outcomes(passed=1)
    replayed.assert_outcomes(passed=1)


def test_engine_that_is_opened_while_httpx_is_mocked(pytester: pytest.Pytester) -> None:
    """The look at the default address asks the mock, and the message is that of any other test."""
    pytester.makepyfile("def test_it(respx_mock, llmengine_use): llmengine_use('ollama')")

    result = pytester.runpytest_inprocess("--engine-missing=skip", "-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*Live: nothing answers at*"])


def test_workers_without_an_engine(hello: pytest.Pytester) -> None:
    """A wrong name fails the tests of workers with one line, not the workers."""
    hello.makeini("[pytest]\nllmengine_engine = nope\n")

    result = hello.runpytest_subprocess("-n2")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["unknown engine 'nope': *"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_pytest_recording_beside(pytester: pytest.Pytester, upstream: MockServer) -> None:
    """One run records and replays tests with vcrpy's marker and tests with our engines."""
    pytester.makepyfile(
        f"""
        import os
        import httpx
        import pytest

        @pytest.mark.vcr
        def test_theirs():
            assert httpx.get("{upstream.base_url}/models").status_code == 200

        def test_ours(engine):
            assert engine.generate(["Say hello."])[0].outputs[0].text
        """
    )
    url = f"--engine-url={upstream.base_url}"
    aim = "--engine=openai_compatible"

    recorded = pytester.runpytest_subprocess(aim, url, "--engine-mode=record", "--record-mode=once")
    recorded.assert_outcomes(passed=2)
    upstream.stop()
    replayed = pytester.runpytest_subprocess(aim)
    replayed.assert_outcomes(passed=2)
