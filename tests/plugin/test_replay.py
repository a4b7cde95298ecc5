"""Recording a user's tests, and replaying them without the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.recording.packed import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_AIM = "--engine=openai_compatible"


@pytest.fixture
def cassettes(pytester: pytest.Pytester) -> Path:
    """The folder of these tests' recordings."""
    return pytester.path / "cassettes" / "openai_compatible"


def test_record_then_replay(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """A recorded test passes without the server, and the header names the recording."""
    record().assert_outcomes(passed=1)
    assert (cassettes / "test_hello" / "test_hello.yaml").is_file()

    result = hello.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [r"llmengine: openai_compatible, replayed from .*\(mock\), recorded \d{4}-\d\d-\d\d;.*"]
    )


def test_packed_recording(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """It is replayed like a folder; to record again, it has to be unpacked."""
    record()
    packed = pack(cassettes)

    hello.runpytest_inprocess(_AIM).assert_outcomes(passed=1)
    again = record("--rewrite")

    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines([f"*{packed} is packed*`llmengine cassettes unpack {packed}`*"])


def test_replay_with_several_engines(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """The recording of one engine is found if the test runs on several."""
    record()

    hello.runpytest_inprocess(_AIM, "--engine=mock").assert_outcomes(passed=2)


def test_other_folder(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """The folder of recordings is an option."""
    record("--engine-cassettes=tapes").assert_outcomes(passed=1)
    assert not cassettes.exists()

    result = hello.runpytest_inprocess(_AIM, "--engine-cassettes=tapes")

    result.assert_outcomes(passed=1)


def test_miss_fails_a_client_that_swallows_it(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """A request that was not recorded fails the test, with the difference and the command."""
    test = """
        def test_it(engine):
            engine.results(["{}"])  # keeps errors to itself
    """
    pytester.makepyfile(test_it=test.format("Good morning"))
    record().assert_outcomes(passed=1)
    pytester.makepyfile(test_it=test.format("Good evening"))

    result = pytester.runpytest_inprocess(_AIM)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*has no answer in*test_it.yaml*",
            '*-*"content": "Good morning",',
            '*+*"content": "Good evening",',
            f"*pytest 'test_it.py::test_it' {_AIM} --engine-mode=record*--rewrite",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_miss_in_a_teardown(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """A request of a fixture after the test must be in the cassette too."""
    test = """
        import pytest

        @pytest.fixture
        def application(engine):
            yield engine
            engine.results(["{}"])

        def test_it(application): pass
    """
    pytester.makepyfile(test_it=test.format("Good morning"))
    record().assert_outcomes(passed=1)
    pytester.makepyfile(test_it=test.format("Good evening"))

    pytester.runpytest_inprocess(_AIM).assert_outcomes(passed=1, errors=1)


def test_missing_cassette(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """The line says how to record it."""
    record()
    hello.makepyfile(test_new="def test_new(engine): engine.generate(['x'])")

    result = hello.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=1, errors=1)
    missing = cassettes / "test_new" / "test_new.yaml"
    command = f"pytest 'test_new.py::test_new' {_AIM} --engine-mode=record --engine-url=URL"
    result.stdout.fnmatch_lines([f"there is no cassette {missing}; record it: {command}"])
    assert "Traceback" not in result.stdout.str()


def test_broken_cassette(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """The error names a file that is not a cassette, which never counts as an empty one."""
    record()
    (cassettes / "test_hello" / "test_hello.yaml").write_text("interactions: [")

    result = hello.runpytest_inprocess(_AIM)

    assert result.ret != 0
    assert "test_hello.yaml" in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str()


def test_nothing_leaves_the_machine(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """A replayed test may not reach another host, also if it hides the failure."""
    test = """
        import contextlib
        import socket

        def test_it(engine):
            with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.connect(("203.0.113.1", 80))  # sends nothing
    """
    pytester.makepyfile(test_it=test)
    record()

    result = pytester.runpytest_inprocess(_AIM)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["replay: a connection to 203.0.113.1 was refused*"])


def test_network_is_free_after_a_replay(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult]
) -> None:
    """Tests without an engine are not guarded."""
    pytester.makepyfile(
        test_it="""
        import socket

        def test_engine(engine): pass

        def test_free():
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.connect(("203.0.113.1", 80))  # sends nothing
        """
    )
    record()

    result = pytester.runpytest_inprocess(_AIM)

    result.assert_outcomes(passed=2)


def test_recording_is_not_replaced_unasked(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """Without ``--rewrite`` recordings stay, and only missing ones are made."""
    record()
    tape = cassettes / "test_hello" / "test_hello.yaml"
    before = tape.read_bytes()
    hello.makepyfile(test_new="def test_new(engine): engine.generate(['x'])")

    result = record("-rs")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*test_hello.yaml already exists; --rewrite records it*"])
    assert tape.read_bytes() == before
    assert (cassettes / "test_new" / "test_new.yaml").is_file()


def test_rewrite(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """With ``--rewrite`` a test is recorded again."""
    tape = cassettes / "test_hello" / "test_hello.yaml"
    tape.parent.mkdir(parents=True)
    tape.write_text("outdated")

    record("--rewrite").assert_outcomes(passed=1)

    assert "Say hello." in tape.read_text()


def test_live_tests_are_skipped_in_a_replay(
    hello: pytest.Pytester, record: Callable[..., pytest.RunResult], upstream: MockServer
) -> None:
    """The marker ``live`` is for tests that a recording cannot serve."""
    hello.makepyfile(test_live="import pytest\n@pytest.mark.live\ndef test_live(engine): pass")
    record()

    replayed = hello.runpytest_inprocess(_AIM, "-rs")
    live = hello.runpytest_inprocess(_AIM, f"--engine-url={upstream.base_url}")

    replayed.assert_outcomes(passed=1, skipped=1)
    replayed.stdout.fnmatch_lines(["SKIPPED*marked live*--engine-mode=live*"])
    live.assert_outcomes(passed=2)


def test_key_is_not_in_the_recording(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cassettes: Path
) -> None:
    """The server gets the key, no file has it, and the replay needs none."""
    key = "sk-very-secret-123"
    with MockServer(api_key=key) as server, monkeypatch.context() as patch:
        patch.setenv("LLMENGINE_API_KEY", key)
        url = f"--engine-url={server.base_url}"
        result = hello.runpytest_inprocess(_AIM, url, "--engine-mode=record")
    result.assert_outcomes(passed=1)
    assert key not in result.stdout.str()
    assert all(key not in path.read_text() for path in cassettes.rglob("*.yaml"))

    hello.runpytest_inprocess(_AIM).assert_outcomes(passed=1)


def test_names_of_cassettes(
    pytester: pytest.Pytester, record: Callable[..., pytest.RunResult], cassettes: Path
) -> None:
    """A cassette has the name of its test, or that of the marker."""
    folder = pytester.mkdir("checks")
    folder.joinpath("test_it.py").write_text(
        """
import pytest

class TestGroup:
    @pytest.mark.parametrize("word", ["plain", "a/b", "a b", "../../up"])
    def test_word(self, engine, word): pass

@pytest.mark.llmengine_cassette("shared/greeting")
def test_marked(engine): pass
"""
    )
    record().assert_outcomes(passed=5)

    found = sorted(str(p.relative_to(cassettes)) for p in cassettes.rglob("*.yaml"))
    shapes = [re.sub(r"-[0-9a-f]{8}\.yaml", "-HASH.yaml", name) for name in found]
    word = "checks/test_it/TestGroup.test_word"
    assert sorted(shapes) == sorted(
        [
            f"{word}[plain].yaml",
            f"{word}[a-b]-HASH.yaml",
            f"{word}[a-b]-HASH.yaml",
            f"{word}[..-..-up]-HASH.yaml",
            "shared/greeting.yaml",
        ]
    )
    assert len(set(found)) == len(found)
    pytester.runpytest_inprocess(_AIM).assert_outcomes(passed=5)
