"""What a run records: vcrpy's record modes, failed tests, the age of cassettes, and matching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import MockServer

_AIM = ("--engine=openai_compatible", "--engine-model=mock")
_NOWHERE = "--engine-url=http://127.0.0.1:9"
_ASK = """
import pytest

def test_ask(engine):
    for prompt in {}:
        assert engine.generate([prompt])
    {}
"""


@pytest.fixture
def file(pytester: pytest.Pytester) -> Path:
    """The cassette of the test `test_ask`."""
    return pytester.path / "cassettes" / "openai_compatible" / "test_it" / "test_ask.yaml"


@pytest.fixture
def run(pytester: pytest.Pytester, upstream: MockServer) -> Callable[..., pytest.RunResult]:
    """Runs a test that sends these prompts, in this mode, with the address of a server."""

    def run_test(mode: str, prompts: list[str], *options: str, end: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_it=_ASK.format(prompts, end))
        return pytester.runpytest_inprocess(
            *_AIM,
            f"--engine-url={upstream.base_url}",
            f"--engine-mode={mode}",
            *options,
            no_reraise_ctrlc=True,
        )

    return run_test


def _prompts(server: MockServer) -> list[str]:
    """The prompts that the server has answered, without that by which the plugin looks at it."""
    chats = [call.json["messages"] for call in server.calls if call.method == "POST"]
    return [messages[-1]["content"] for messages in chats if "prompt" in str(messages)]


def test_modes_of_vcrpy(
    run: Callable[..., pytest.RunResult],
    pytester: pytest.Pytester,
    upstream: MockServer,
    file: Path,
) -> None:
    """Each of the four modes records what vcrpy would, and plays the rest."""
    run("once", ["prompt 1"]).assert_outcomes(passed=1)
    recorded = file.read_bytes()

    again = run("once", ["prompt 1", "prompt 2"])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(
        [f"llmengine: *recording what is missing from {upstream.base_url}*", "*has no answer in*"]
    )
    assert file.read_bytes() == recorded
    assert _prompts(upstream) == ["prompt 1"]

    run("new_episodes", ["prompt 2", "prompt 1"]).assert_outcomes(passed=1)
    assert _prompts(upstream) == ["prompt 1", "prompt 2"]
    run("none", ["prompt 2", "prompt 1"]).assert_outcomes(passed=1)
    assert _prompts(upstream) == ["prompt 1", "prompt 2"]

    run("all", ["prompt 3"]).assert_outcomes(passed=1)
    pytester.runpytest_inprocess("--engine=openai_compatible").assert_outcomes(passed=1)
    assert "prompt 2" not in file.read_text()


def test_server_that_is_not_needed(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    """If all is recorded, the server is not contacted, and needs no address."""
    run("once", ["prompt 1"]).assert_outcomes(passed=1)

    for options in (["--engine-mode=once"], ["--engine-mode=new_episodes", _NOWHERE]):
        pytester.runpytest_inprocess(*_AIM, *options).assert_outcomes(passed=1)

    pytester.makepyfile(test_new="def test_new(engine): engine.generate(['prompt 2'])")
    result = pytester.runpytest_inprocess(*_AIM, _NOWHERE, "--engine-mode=once")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["engine 'openai_compatible': nothing answers at http://127.0.0.1:9*"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_record_mode_of_a_fixture(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, file: Path
) -> None:
    """In a run that records, the record mode of the test is used."""
    run("all", ["prompt 1"]).assert_outcomes(passed=1)
    fixture = """
        import pytest

        @pytest.fixture
        def llmengine_recording_config(): return {"record_mode": "new_episodes"}
    """
    pytester.makeconftest(fixture)
    run("all", ["prompt 2"]).assert_outcomes(passed=1)
    assert "prompt 1" in file.read_text()
    assert "prompt 2" in file.read_text()


def test_rewrite_and_a_mode_that_keeps(
    run: Callable[..., pytest.RunResult], error_line: Callable[[pytest.RunResult], str]
) -> None:
    """The two contradict each other."""
    line = error_line(run("once", ["prompt 1"], "--rewrite"))
    assert "the mode once keeps existing recordings, and --rewrite" in line


def test_failed_test(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, file: Path
) -> None:
    """It leaves the good cassette as it is, and the failure says where the new answers are."""
    run("all", ["prompt 1"]).assert_outcomes(passed=1)
    good = file.read_bytes()

    result = run("all", ["prompt 2"], end="raise ValueError")
    result.assert_outcomes(failed=1)
    part = file.with_name("test_ask.yaml.part")
    assert file.read_bytes() == good
    assert "prompt 2" in part.read_text()
    result.stdout.fnmatch_lines(
        [
            "*Recording of the LLM engine*",
            f"{file} was not changed, because the run failed; the new answers are in {part}*",
        ]
    )

    run("all", [], end="raise ValueError").assert_outcomes(failed=1)
    run("all", ["prompt 2"], end="pytest.skip()").assert_outcomes(skipped=1)
    assert file.read_bytes() == good
    pytester.makeini("[pytest]\nllmengine_record_on_exception = true")
    run("all", ["prompt 2"], end="raise ValueError").assert_outcomes(failed=1)
    assert "prompt 2" in file.read_text()
    assert not part.exists()


def test_interrupted_test(run: Callable[..., pytest.RunResult], file: Path) -> None:
    """Ctrl-C in a test leaves no recording of a half of it."""
    run("all", ["prompt 1"], end="raise KeyboardInterrupt")
    assert not file.exists()
    assert "prompt 1" in file.with_name("test_ask.yaml.part").read_text()


def test_matching_options(
    run: Callable[..., pytest.RunResult],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does not matter is in the ini file or the environment, an own function by its name."""
    (pytester.path / "own_names.py").write_text(
        "def names(text): return text.replace('Ada', 'N').replace('Bob', 'N')"
    )
    normalize = "llmengine_normalize = dates own_names:names"
    pytester.makeini(f"[pytest]\npythonpath = .\n{normalize}\nllmengine_match_on = body")
    monkeypatch.setenv("LLMENGINE_IGNORE_PATHS", "$.model")
    run("all", ["prompt of Ada at 10:00"]).assert_outcomes(passed=1)
    prompts = ["prompt of Bob at 11:00"]
    run("none", prompts, "--engine-model=other").assert_outcomes(passed=1)
    run("none", ["prompt of Eve at 11:00"]).assert_outcomes(failed=1)


def test_wrong_matching_option(
    run: Callable[..., pytest.RunResult],
    pytester: pytest.Pytester,
    error_line: Callable[[pytest.RunResult], str],
) -> None:
    """The run ends before any test, with one line that names the ini option."""
    pytester.makeini("[pytest]\nllmengine_normalize = date")
    line = error_line(run("none", ["prompt 1"]))
    assert line == (
        "ERROR: ini option llmengine_normalize: normalize: 'date' is neither a function nor a "
        "known normalizer; did you mean 'dates'?"
    )


def test_max_age(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, file: Path
) -> None:
    """A cassette that is too old is a warning, or fails its test in one line."""
    run("all", ["prompt 1"]).assert_outcomes(passed=1)
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join("    recorded_at: '2020-01-01'" if "recorded_at" in x else x for x in lines)
    )
    pytester.makeini("[pytest]\nllmengine_max_age = 30")

    result = run("none", ["prompt 1"], "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*CassetteExpiredWarning: *test_ask.yaml was recorded on 2020-01-01*"]
    )

    result = run("none", ["prompt 1"], "--engine-expired=fail")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"{file} was recorded on 2020-01-01, * days ago, and max_age is 30*"]
    )
