"""``@pytest.mark.vcr`` on tests of engines: no key in a cassette, and the right answer to each."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-of-the-server-behind-vcr"
# The second run asks in the reverse order.
_BATCH = """
    import json
    import pytest
    from pathlib import Path
    from llmengine import EngineConfig, SamplingParams

    ENGINE = {{"backend": "openai_compatible", "model": "mock", "endpoint": "{url}", "name": "x",
               "headers": {{"X-Api-Key": "{key}"}}}}
    FIRST = Path("{folder}/first.json")

    {mark}
    def test_batch({fixture}):
        prompts = [f"Repeat the key {key}, number {{n}}." for n in range(4)]
        if FIRST.exists():
            prompts.reverse()
        with EngineConfig(**ENGINE, api_key_env="TEAM_KEY").engine as engine:
            outputs = engine.generate(prompts, SamplingParams(max_tokens=5))
        answers = {{prompt: o.outputs[0].text for prompt, o in zip(prompts, outputs)}}
        if not FIRST.exists():
            FIRST.write_text(json.dumps(answers))
        assert answers == json.loads(FIRST.read_text())
        assert len(set(answers.values())) == 4
"""


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A server with a key."""
    with MockServer(api_key=KEY) as server:
        yield server


def _assert_no_key(pytester: pytest.Pytester) -> None:
    (cassette,) = pytester.path.rglob("*.yaml")
    text = cassette.read_text()
    assert "interactions" in text
    assert KEY not in text
    assert base64.b64encode(KEY.encode()).decode()[:-4] not in text


def test_pytest_recording(
    pytester: pytest.Pytester, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is recorded without its key, and each prompt is replayed with its own answer."""
    monkeypatch.setenv("TEAM_KEY", KEY)
    values = {"url": server.base_url, "key": KEY, "folder": pytester.path}
    pytester.makepyfile(_BATCH.format(mark="@pytest.mark.vcr", fixture="", **values))

    pytester.runpytest_inprocess("--record-mode=once").assert_outcomes(passed=1)
    server.stop()
    _assert_no_key(pytester)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_pytest_vcr(
    pytester: pytest.Pytester, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a fixture that makes the VCR, as that of pytest-vcr does."""
    monkeypatch.setenv("TEAM_KEY", KEY)
    pytester.makeconftest(
        """
        import pytest, vcr as vcrpy

        @pytest.fixture
        def vcr():
            return vcrpy.VCR(before_record_request=[lambda request: request])

        @pytest.fixture
        def cassette(vcr):
            with vcr.use_cassette("one.yaml") as cassette:
                yield cassette
        """
    )
    values = {"url": server.base_url, "key": KEY, "folder": pytester.path}
    pytester.makepyfile(_BATCH.format(mark="", fixture="cassette", **values))

    pytester.runpytest_inprocess("-p", "no:recording").assert_outcomes(passed=1)
    server.stop()
    _assert_no_key(pytester)
    pytester.runpytest_inprocess("-p", "no:recording").assert_outcomes(passed=1)
