"""Names that lead out of the folder, and answers with terminal escapes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

_AIM = "--engine=openai_compatible"
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e]|\x1b(?!\\[[0-9;]*m)")


def test_answer_with_escapes_is_shown_and_not_obeyed(pytester: pytest.Pytester) -> None:
    """In the failure, in captured output and in the JUnit file."""
    pytester.makepyfile("""
        def test_it(engine):
            answer = engine.generate(["Say hello."])[0].outputs[0].text
            print(answer)
            raise ValueError(answer)
    """)
    attack = "\x1b]0;pwned\x07\x1b[2J\x9b2J\u202egnp.exe"

    with MockServer(script=Script(replies=[attack] * 3)) as server:
        result = pytester.runpytest_subprocess(
            _AIM, f"--engine-url={server.base_url}", "--showlocals", "--junitxml=j.xml"
        )

    result.assert_outcomes(failed=1)
    text = result.stdout.str() + (pytester.path / "j.xml").read_text("utf-8")
    assert r"ValueError: \x1b]0;pwned\x07" in text
    assert not _UNSAFE.search(text)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/../../b", "con"])
def test_cassette_outside_of_its_folder_is_refused(
    pytester: pytest.Pytester, upstream: MockServer, name: str
) -> None:
    """One line, and no file in another folder."""
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.llmengine_cassette({name!r})
        def test_it(engine):
            engine.generate("Say hello.")
    """)

    result = pytester.runpytest_inprocess(
        _AIM, f"--engine-url={upstream.base_url}", "--engine-mode=record"
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*the name of a cassette: '{name}.yaml' cannot be a path below*"])
    assert [*pytester.path.parent.rglob("outside*")] == []


def test_engine_whose_name_leaves_the_folder_is_refused(
    hello: pytest.Pytester, upstream: MockServer, error_line: Callable[[pytest.RunResult], str]
) -> None:
    """An engines file cannot write to another folder."""
    entry = {"backend": "openai_compatible", "model": "mock", "endpoint": upstream.base_url}
    hello.path.joinpath("e.yaml").write_text(json.dumps([entry | {"name": "../../outside"}]))

    line = error_line(
        hello.runpytest_inprocess(
            "--engine=../../outside", "--engine-config=e.yaml", "--engine-mode=record"
        )
    )

    assert "the name of an engine: '../../outside' cannot be a path below" in line
