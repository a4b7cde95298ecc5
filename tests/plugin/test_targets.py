"""Opening an engine without pytest, as the command line does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import select
from pytest_llmengine.recording.packed import pack
from pytest_llmengine.targets import (
    AlreadyRecorded,
    Mode,
    Settings,
    TargetError,
    judge,
    open_session,
    with_contract,
)

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.mock import RawReply, ReceivedRequest

(REQUIRED_FIELDS,) = select(ids=["chat.basic.required_fields"])


def _aimed(name: str, server: MockServer, path: str = "/v1", **more: object) -> Settings:
    """Settings of a run for an engine at a server."""
    return Settings(engines=(name,), url=server.root_url + path, **more)  # type: ignore[arg-type] # fields of Settings


def test_live_session(upstream: MockServer) -> None:
    """Engine and target have one address, and the description has it and the server."""
    with open_session("openai_compatible", _aimed("openai_compatible", upstream)) as session:
        assert session.mode is Mode.LIVE
        assert session.engine.base_url == session.target.base_url == upstream.base_url
        assert session.engine.model == session.target.model == "mock"
        assert session.describe() == f"live at {upstream.base_url}, mock mock (mock)"
        with session.cassette("any") as tape:
            assert tape is None


def test_recorder_is_given_the_servers_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the environment for the server's address passes through the recorder."""
    settings = Settings(engines=("vllm_api",), model="mock", mode=Mode.RECORD, cassettes=tmp_path)
    with MockServer(api_key="vllm-server-key") as server:
        monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
        monkeypatch.setenv("VLLM_API_KEY", "vllm-server-key")
        with open_session("vllm_api", settings) as session, session.cassette("hello"):
            assert session.engine.generate("Hello")


@pytest.mark.parametrize("name", ["ollama_api", "vllm_api"])
def test_server_says_its_version(upstream: MockServer, name: str, tmp_path: Path) -> None:
    """The provenance and the recording have the version of Ollama and vLLM."""
    answer = httpx.get(
        f"{upstream.root_url}/{'api/' if name == 'ollama_api' else ''}version"
    ).json()
    settings = _aimed(name, upstream, "", mode=Mode.RECORD, cassettes=tmp_path)

    with open_session(name, settings) as session, session.cassette("hello"):
        assert session.provenance.version == answer["version"]
        assert session.describe().startswith(f"recording from {upstream.base_url}, ")
        session.engine.generate("Hello")

    replayed = Settings(engines=(name,), mode=Mode.REPLAY, cassettes=tmp_path)
    with open_session(name, replayed) as session:
        assert session.provenance.version == answer["version"]
        assert answer["version"] in session.describe()
        assert session.engine.model == "mock"
        with session.cassette("hello"):
            assert session.engine.generate("Hello")[0].finished


@pytest.mark.parametrize("path", ["", "/v1"])
def test_path_decides_the_dialect_while_recording(
    upstream: MockServer, tmp_path: Path, path: str
) -> None:
    """Ollama at ``/v1`` gets OpenAI's dialect, through the recorder too."""
    settings = _aimed("ollama_api", upstream, path, mode=Mode.RECORD, cassettes=tmp_path)

    with open_session("ollama_api", settings) as session, session.cassette("hello"):
        session.engine.generate("Hello")

    assert upstream.calls[-1].path == ("/v1/chat/completions" if path else "/api/chat")


def _behind(prefix: str) -> Behaviour:
    """A gateway whose routes all have a prefix."""

    def only_below(reply: RawReply, call: ReceivedRequest) -> RawReply:
        reply.status = 200 if call.path.startswith(prefix) else 404
        return reply

    return Behaviour("gateway", wire=only_below)


def test_path_of_another_kind_is_kept(tmp_path: Path) -> None:
    """An API at another path is recorded and reached there, without a ``/v1``."""
    with MockServer(behaviour=_behind("/gate")) as server:
        settings = _aimed(
            "openai_compatible", server, "/gate", mode=Mode.RECORD, cassettes=tmp_path, model="mock"
        )
        with open_session("openai_compatible", settings) as session, session.cassette("hello"):
            assert urlsplit(session.engine.base_url).path == "/gate"
            session.engine.results("Hello")
        assert server.calls[-1].path == "/gate/chat/completions"


def test_recording_is_kept(upstream: MockServer, tmp_path: Path) -> None:
    """An existing cassette is not replaced unasked; the check ends with an error that says so."""
    settings = _aimed("vllm_api", upstream, mode=Mode.RECORD, cassettes=tmp_path)
    tape = tmp_path / "vllm_api" / f"{REQUIRED_FIELDS.id}.yaml"
    with open_session("vllm_api", settings) as session:
        assert judge(REQUIRED_FIELDS, session).outcome is Outcome.PASS
        before = tape.read_bytes()
        again = judge(REQUIRED_FIELDS, session)
        with (
            pytest.raises(AlreadyRecorded, match="--rewrite"),
            session.cassette(REQUIRED_FIELDS.id),
        ):
            pass

    assert again.outcome is Outcome.UNMEASURED
    assert "--rewrite" in again.reason
    assert tape.read_bytes() == before


def test_check_without_cassette_has_no_verdict(upstream: MockServer, tmp_path: Path) -> None:
    """The result of a check that was never recorded has the command that records it."""
    settings = _aimed("vllm_api", upstream, mode=Mode.RECORD, cassettes=tmp_path)
    with open_session("vllm_api", settings) as session, session.cassette("another"):
        pass

    with open_session("vllm_api", Settings(mode=Mode.REPLAY, cassettes=tmp_path)) as session:
        result = judge(REQUIRED_FIELDS, session)

    assert result.outcome is Outcome.UNRECORDED
    assert not result.failed
    assert f"--engine vllm_api --mode record --check {REQUIRED_FIELDS.id}" in result.reason


def test_what_a_proxy_cannot_show(upstream: MockServer, tmp_path: Path) -> None:
    """A proxy hides the server's connections, and a replay also hides arrival times."""
    (reuse,) = select(ids=["net.keepalive.reuse"])
    (incremental,) = select(ids=["chat.stream.incremental"])
    modes = {
        Mode.LIVE: _aimed("vllm_api", upstream),
        Mode.RECORD: _aimed("vllm_api", upstream, mode=Mode.RECORD, cassettes=tmp_path),
        Mode.REPLAY: Settings(mode=Mode.REPLAY, cassettes=tmp_path),
    }
    seen = {}
    for mode, settings in modes.items():
        with open_session("vllm_api", settings) as session:
            seen[mode] = [judge(row, session).outcome for row in (reuse, incremental)]

    assert seen == {
        Mode.LIVE: [Outcome.PASS, Outcome.PASS],
        Mode.RECORD: [Outcome.UNMEASURED, Outcome.PASS],
        Mode.REPLAY: [Outcome.UNMEASURED, Outcome.UNMEASURED],
    }


def test_model_must_be_named_where_there_are_several() -> None:
    """None of several models is chosen; the line names them."""

    def two(body: dict[str, object], call: ReceivedRequest) -> dict[str, object]:
        if "data" in body:
            body["data"] = [{"id": "small"}, {"id": "large"}]
        return body

    with (
        MockServer(behaviour=Behaviour("two models", reply=two)) as server,
        pytest.raises(
            TargetError, match="--engine-model=MODEL or set VLLM_MODEL; it has small, large"
        ),
        open_session("vllm_api", _aimed("vllm_api", server)),
    ):
        pass


def test_embedded_is_replayed_where_it_was_recorded(tmp_path: Path, upstream: MockServer) -> None:
    """The embedded engine needs no server, but is replayed if there are cassettes."""
    aimed = _aimed("embedded", upstream, mode=Mode.RECORD, cassettes=tmp_path, model="mock")
    with open_session("embedded", aimed) as session, session.cassette("hello"):
        session.engine.generate("Hello")

    with open_session("embedded", Settings(cassettes=tmp_path)) as session:
        assert session.mode is Mode.REPLAY
        assert session.profile.engine == "embedded"


def test_packed_recordings_stay_as_they_were_made(upstream: MockServer, tmp_path: Path) -> None:
    """If a rule has other requests by now, its packed recording is not an error."""
    aimed = _aimed("openai_compatible", upstream, mode=Mode.RECORD, cassettes=tmp_path)
    with open_session("openai_compatible", aimed) as session:
        judge(REQUIRED_FIELDS, session)
    folder = tmp_path / "openai_compatible"
    (tape,) = folder.iterdir()
    tape.write_text(tape.read_text().replace("Say hello.", "Say something else."))
    replayed = Settings(mode=Mode.REPLAY, cassettes=tmp_path)

    with open_session("openai_compatible", replayed) as session:
        assert judge(REQUIRED_FIELDS, session).outcome is Outcome.ERROR
    pack(folder)
    with open_session("openai_compatible", replayed) as session:
        result = judge(REQUIRED_FIELDS, session)

    assert (result.outcome, result.accepted) == (Outcome.UNRECORDED, True)
    assert f"its recording in {folder}.zip is of an earlier form of the rule" in result.reason


def test_engines_of_a_run_without_a_name(tmp_path: Path) -> None:
    """Packed recordings are replayed rule by rule only if nothing else was recorded."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{REQUIRED_FIELDS.id}.yaml").write_text("version: 1\n")
    pack(tmp_path / "b")
    assert with_contract(tmp_path) == ["a"]
    pack(tmp_path / "a")
    assert with_contract(tmp_path) == ["a", "b"]
