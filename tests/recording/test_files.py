"""The cassette file: vcrpy's format, safe to load, readable, with clear errors."""

from __future__ import annotations

import asyncio
import pickle
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import vcr
import yaml
from packaging.version import Version

from pytest_llmengine.recording import (
    CassetteError,
    CassetteNotFoundError,
    Provenance,
    RecordServer,
    ReplayServer,
    unused_cassettes,
    yaml_format,
)

VCRPY = Version(version("vcrpy"))

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, ChunksOf, RawUpstream, StreamOf, Whole

SSE = [b'data: {"a": "\xf0\x9f', b'\x98\x80"}\n\n', b"data: [DONE]\n\n"]
FACTS = Provenance("llama.cpp", "b11549", "smollm2-135m", "sha256:0123")


@pytest.fixture
def stream_file(
    upstream: RawUpstream, stream_of: StreamOf, path: Path, chunks_of: ChunksOf
) -> Path:
    """A cassette with one stream, an emoji split over two of its chunks."""
    upstream.will_send(*stream_of(*SSE))
    with RecordServer(upstream.url, FACTS) as recorder, recorder.cassette(path):
        chunks_of(recorder.root_url + "/v1/stream")
    return path


@pytest.fixture
def refuse() -> Callable[[Path], str]:
    """Opens a cassette that cannot be opened, and returns the message."""

    def replay(path: Path) -> str:
        with (
            ReplayServer() as player,
            pytest.raises(CassetteError) as caught,
            player.cassette(path),
        ):
            pass
        return str(caught.value)

    return replay


def test_the_file_is_made_for_review(stream_file: Path) -> None:
    """First the provenance, then the exchange with its body as lines of text."""
    text = stream_file.read_text(encoding="utf-8")
    assert text.startswith("version: 1\nmetadata:\n  llmengine:\n    engine: llama.cpp\n")
    assert '      string: |+\n        data: {"a": "😀"}\n\n        data: [DONE]\n\n' in text
    assert "      sizes: [15, 6, 14]\n" in text


def test_the_address_has_no_port_and_the_date_no_time(stream_file: Path) -> None:
    """A new recording on another port on the same day changes only the offsets."""
    document = yaml.safe_load(stream_file.read_text(encoding="utf-8"))
    facts = document["metadata"]["llmengine"]
    assert facts["upstream"] == "http://127.0.0.1"
    assert len(facts["recorded_at"]) == len("2026-11-21")
    assert document["interactions"][0]["request"]["uri"] == "http://127.0.0.1/v1/stream"


def test_provenance_comes_back(stream_file: Path) -> None:
    """The replay knows which server answered, and when."""
    with ReplayServer() as player, player.cassette(stream_file) as tape:
        facts = tape.provenance
    assert facts == FACTS.completed("http://127.0.0.1")
    assert facts.describe() == (f"llama.cpp b11549 (smollm2-135m), recorded {facts.recorded_at}")


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (Provenance(), "an unnamed engine, recorded at an unknown time"),
        (Provenance("Ollama", recorded_at="2026-11-21"), "Ollama, recorded 2026-11-21"),
    ],
)
def test_unknown_facts_are_marked(facts: Provenance, line: str) -> None:
    """A report never guesses an engine or a date."""
    assert facts.describe() == line


def test_vcrpy_plays_it_through_httpx_and_aiohttp(stream_file: Path) -> None:
    """Plain vcrpy gets the body as a whole, and ignores the additional fields."""

    async def by_aiohttp() -> bytes:
        async with (
            aiohttp.ClientSession() as session,
            session.get("http://127.0.0.1/v1/stream") as answer,
        ):
            return await answer.read()

    options: dict[str, Any] = {"record_mode": "none", "allow_playback_repeats": True}
    with vcr.use_cassette(str(stream_file), **options) as cassette:
        assert httpx.get("http://127.0.0.1/v1/stream").content == b"".join(SSE)
        if Version("9.1") <= VCRPY:  # older ones do not fit a current aiohttp
            assert asyncio.run(by_aiohttp()) == b"".join(SSE)
        if Version("9.4") <= VCRPY:  # older ones ignore it
            assert cassette.get_metadata("llmengine", {})["engine"] == "llama.cpp"


def test_a_file_of_vcrpy_s_own_is_played(path: Path, ask: Ask) -> None:
    """A project's recordings by vcrpy need not be made again."""
    path.parent.mkdir()
    path.write_text(
        """interactions:
- request:
    body: '{"n": 1}'
    headers: {Content-Type: [application/json], User-Agent: [python]}
    method: POST
    uri: https://api.example.com/v1/chat
  response:
    body: {string: '{"ok": true}'}
    headers:
      Content-Type: [application/json]
      Transfer-Encoding: [chunked]
    status: {code: 200, message: OK}
version: 1
"""
    )
    with ReplayServer() as player, player.cassette(path) as tape:
        assert ask(player.root_url).json() == {"ok": True}
        assert tape.provenance == Provenance()


def test_a_python_object_is_refused_and_not_made(
    path: Path, tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    """A cassette from an unknown author cannot run code."""
    witness = tmp_path / "was-run"
    path.parent.mkdir()
    path.write_text(f"version: 1\ninteractions:\n- !!python/object/apply:os.mkdir ['{witness}']\n")
    words = refuse(path)
    assert not witness.exists()
    assert str(path) in words
    assert "python/object/apply:os.mkdir" in words


def test_a_pickle_is_refused(path: Path, refuse: Callable[[Path], str]) -> None:
    """The error names a file that is not text, and says what to do."""
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"interactions": []}))
    assert "record again" in refuse(path)


@pytest.mark.parametrize(
    "text",
    ["", "just words", "interactions: [{}]", "[", "version: 1", "interactions: 7"],
)
def test_file_that_is_not_a_cassette_is_refused(
    path: Path, refuse: Callable[[Path], str], text: str
) -> None:
    """An unreadable file is an error, and never counts as an empty cassette."""
    path.parent.mkdir()
    path.write_text(text)
    assert f"{path} is not a cassette that can be replayed" in refuse(path)


def test_a_body_edited_by_hand_is_noticed(
    stream_file: Path, refuse: Callable[[Path], str], chunks_of: ChunksOf
) -> None:
    """Sizes that do not add up are an error that says what to do."""
    text = stream_file.read_text(encoding="utf-8").replace("[DONE]", "[FINISHED]")
    stream_file.write_text(text, encoding="utf-8")
    assert "delete the 'llmengine' entry" in refuse(stream_file)

    document = yaml.safe_load(text)
    del document["interactions"][0]["response"]["llmengine"]
    stream_file.write_text(yaml.safe_dump(document))
    with ReplayServer() as player, player.cassette(stream_file):
        chunks = chunks_of(player.root_url + "/v1/stream")
    assert chunks == [b"".join(SSE).replace(b"[DONE]", b"[FINISHED]")]


def test_a_missing_file_says_how_to_record_it(path: Path, refuse: Callable[[Path], str]) -> None:
    """The error has the path and the two commands."""
    words = refuse(path)
    assert f"no cassette at {path}" in words
    assert "--engine-mode=record" in words
    assert f"llmengine record --upstream URL {path}" in words


def test_an_empty_directory_is_a_missing_cassette(
    tmp_path: Path, refuse: Callable[[Path], str]
) -> None:
    """A directory without recordings is not an empty cassette."""
    assert f"no cassette at {tmp_path}" in refuse(tmp_path)


def test_the_error_survives_a_worker(path: Path) -> None:
    """pytest-xdist pickles exceptions between processes."""
    error = CassetteNotFoundError(path)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_recording_again_replaces_the_file(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """A cassette has only the last recording."""
    for answer in (b"old", b"new"):
        upstream.will_send(whole(answer))
        with RecordServer(upstream.url) as recorder, recorder.cassette(path):
            ask(recorder.root_url)
    with ReplayServer() as player, player.cassette(path) as tape:
        assert ask(player.root_url).text == "new"
        assert tape.unused == []


def test_a_directory_is_played_as_one_cassette(
    upstream: RawUpstream, whole: Whole, tmp_path: Path, ask: Ask
) -> None:
    """Every file in it can answer, in the order of the names."""
    for name in ("b", "a/deep"):
        upstream.will_send(whole(name.encode()))
        with RecordServer(upstream.url) as recorder, recorder.cassette(tmp_path / f"{name}.yaml"):
            ask(recorder.root_url)
    with ReplayServer() as player, player.cassette(tmp_path):
        assert [ask(player.root_url).text for _ in range(2)] == ["a/deep", "b"]


def test_files_that_no_test_used_are_listed(tmp_path: Path, monkeypatch: Any) -> None:
    """The file of a renamed test is found, however its path is written."""
    for name in ("used.yaml", "old/gone.yaml", "notes.txt"):
        file = tmp_path / "cassettes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    unused = unused_cassettes(tmp_path / "cassettes", ["cassettes/used.yaml"])
    assert [file.name for file in unused] == ["gone.yaml"]


NASTY = [
    "",
    " ",
    "\n",
    " lead\n",
    "trail \nx",
    "a\r\nb\r\n",
    "tab\tx\n\ty",
    "\ufeffbom",
    "nel\x85ls\u2028ps\u2029",
    "nul\x00bell\x07",
    "😀\n\ud7ff\ue000\ufffd\U0010ffff",
    "{'a': 1}\n",
    "[1]",
    "---\n...\n",
    "# no comment\n",
    "null",
    "1e3",
    "2026-11-21",
    "a: b\n  - c\n\n\n",
    "'\"\\\n",
    "x" * 5000 + " " + "y" * 5000,
    "line\n" * 3 + "\n\n",
    "\n\n  indented first",
    "\x7f\x80\x9f\xa0",
]


@pytest.mark.parametrize("text", NASTY)
def test_every_text_reads_back_as_it_was(text: str) -> None:
    """A block text is readable and has every byte."""
    for body in (text, "x" + text, "{\n" + text):
        written = yaml_format.serialize({"interactions": [{"body": {"string": body}}]})
        assert yaml_format.deserialize(written)["interactions"][0]["body"]["string"] == body


def test_python_objects_are_not_written(path: Path) -> None:
    """The writer refuses what the safe loader refuses."""
    with pytest.raises(yaml.YAMLError):
        yaml_format.serialize({"interactions": [path]})
