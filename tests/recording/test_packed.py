"""Packed recordings: one file per engine, which is read like the folder and never changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from zipfile import ZipFile

import httpx
import pytest

from llmengine.mock import MockServer
from pytest_llmengine.recording import (
    CassetteError,
    CassetteNotFoundError,
    RecordServer,
    ReplayServer,
)
from pytest_llmengine.recording.packed import pack, recordings_in, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = "version: 1\ninteractions: []\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two recordings, one of them in a subfolder."""
    folder = tmp_path / "mine"
    (folder / "tests").mkdir(parents=True)
    (folder / "b.yaml").write_bytes("version: 1\r\ninteractions: []  # é\n".encode())
    (folder / "tests" / "a.yaml").write_text(TEXT)
    return folder


def test_packing_and_unpacking(folder: Path) -> None:
    """The folder comes back byte by byte, and the same folder gives the same file."""
    contents = {path.name: path.read_bytes() for path in folder.rglob("*.yaml")}

    packed = pack(folder)
    first = packed.read_bytes()

    assert packed == folder.with_name("mine.zip")
    assert not folder.exists()
    assert unpack(packed) == folder
    assert not packed.exists()
    assert {path.name: path.read_bytes() for path in folder.rglob("*.yaml")} == contents
    for path in folder.rglob("*.yaml"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    assert pack(folder).read_bytes() == first


def test_packed_recordings_are_replayed(tmp_path: Path) -> None:
    """One recording, all of them by the path of the file, and all by the path of the folder."""
    folder, bodies = tmp_path / "mine", {}
    with MockServer() as upstream, RecordServer(upstream.root_url) as recorder:
        for route in ("models", "models/mock"):
            with recorder.cassette(folder / route / "it.yaml"):
                bodies[route] = httpx.get(f"{recorder.root_url}/v1/{route}").content
    packed = pack(folder)

    with ReplayServer() as replayer:
        for path in (packed, folder):
            with replayer.cassette(path):
                for route, body in bodies.items():
                    assert httpx.get(f"{replayer.root_url}/v1/{route}").content == body
        with replayer.cassette(packed / "models" / "it.yaml") as cassette:
            httpx.get(f"{replayer.root_url}/v1/models")
        assert (cassette.unhandled, cassette.unused) == ([], [])
        with pytest.raises(CassetteNotFoundError, match=r"mine\.zip.other\.yaml"):
            replayer.cassette(packed / "other.yaml").__enter__()


def test_a_packed_file_that_was_replaced_is_read_again(folder: Path) -> None:
    """What a process has read of a packed file does not outlive the file."""
    packed = pack(folder)
    assert len(recordings_in(packed)) == 2
    unpack(packed)
    (folder / "b.yaml").unlink()
    assert [path.name for path in recordings_in(pack(folder))] == ["a.yaml"]


def test_nothing_is_recorded_into_a_packed_file(folder: Path) -> None:
    """The error says how to unpack, before any request is sent."""
    packed = pack(folder)
    with (
        RecordServer("http://127.0.0.1:9") as recorder,
        pytest.raises(CassetteError, match=f"unpack it with `llmengine cassettes unpack {packed}`"),
    ):
        recorder.cassette(packed / "b.yaml").__enter__()


def _both(folder: Path) -> Path:
    with ZipFile(folder.with_name("mine.zip"), "w") as archive:
        archive.writestr("b.yaml", TEXT)
    return folder


def _with_notes(folder: Path) -> Path:
    (folder / "notes.md").write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_both, "both the folder .* have recordings; delete the one"),
        (_with_notes, "notes.md is not a recording"),
        (lambda folder: folder.with_name("nothing"), "there are no recordings to pack"),
        (pack, "is already packed"),
    ],
)
def test_a_folder_that_cannot_be_packed_stays(
    folder: Path, change: Callable[[Path], Path], said: str
) -> None:
    """Nothing is removed, and one error says why."""
    given = change(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(CassetteError, match=said):
        pack(given)
    assert sorted(folder.parent.rglob("*")) == before


def test_a_folder_and_a_packed_file_are_not_read(folder: Path) -> None:
    """It is not known which of them is right."""
    _both(folder)
    with ReplayServer() as replayer, pytest.raises(CassetteError, match="both the folder"):
        replayer.cassette(folder).__enter__()
    with pytest.raises(CassetteError, match="both the folder"):
        unpack(folder.with_name("mine.zip"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.zip", b"PK but not really", r"mine\.zip is not a packed file of recordings"),
        ("mine.tar", b"", r"mine\.tar is not a packed file of recordings, such as embedded\.zip"),
    ],
)
def test_a_file_that_is_not_packed(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """The error names the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CassetteError, match=said):
        unpack(tmp_path / name)


@pytest.mark.parametrize("name", ["../out.yaml", "/out.yaml", "a/../../out.yaml"])
def test_a_name_that_leads_elsewhere_is_not_unpacked(tmp_path: Path, name: str) -> None:
    """A packed file from somebody else writes nothing outside its folder."""
    packed = tmp_path / "mine" / "mine.zip"
    packed.parent.mkdir()
    with ZipFile(packed, "w") as archive:
        archive.writestr(name, TEXT)
    with pytest.raises(CassetteError, match="cannot be a path below"):
        unpack(packed)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "mine.zip"]


def test_a_recording_that_is_damaged(folder: Path) -> None:
    """The error names the recording within the file."""
    packed = pack(folder)
    data = bytearray(packed.read_bytes())
    data[data.index(b"b.yaml") + 10] ^= 0xFF
    packed.write_bytes(data)
    with ReplayServer() as replayer, pytest.raises(CassetteError, match=r"b\.yaml is not a casset"):
        replayer.cassette(packed / "b.yaml").__enter__()
    with pytest.raises(CassetteError, match=r"b\.yaml"):
        unpack(packed)
    assert packed.exists()
