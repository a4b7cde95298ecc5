"""Names of files and paths that stay in their folder."""

from __future__ import annotations

from pathlib import Path
from string import ascii_letters, digits

import pytest

from llmengine import ConfigError
from llmengine.types.file_names import file_name, path_below


@pytest.mark.parametrize("name", ["test_a[b-1]", "qwen2.5", "a" * 120])
def test_a_file_name_stays_what_it_is(name: str) -> None:
    """A name that is valid on every system is not changed."""
    assert file_name(name) == name


def test_other_names_become_file_names_of_their_own() -> None:
    """None leaves the folder, no two are the same, and each is valid on every system."""
    names = [
        "..",
        ".",
        "a/b",
        "a\\b",
        "a:b",
        "a b",
        "../../etc",
        "/etc",
        "nul",
        "COM1.txt",
        "x\0y",
        "",
    ]
    names += ["a" * 200, "a" * 201, "end.", "über"]

    made = [file_name(name) for name in names]

    assert len(set(made)) == len(names)
    assert all(path_below(Path(), name, "") == Path(name) for name in made)
    assert all(set(name) < set(f"{ascii_letters}{digits}-_.") for name in made)


@pytest.mark.parametrize("name", ["a", "a/b", "qwen2.5:0.5b", "org/model.v1", "a b"])
def test_path_below(name: str) -> None:
    """A name may have folders."""
    assert path_below(Path("here"), name, "it") == Path("here") / name


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "",
        ".",
        "a\\..\\b",
        "C:x",
        "nul",
        "a/con.yaml",
        "a\0b",
    ],
)
def test_path_that_leaves_the_folder_is_refused(name: str) -> None:
    """One line says what is wrong and what to give."""
    with pytest.raises(ConfigError, match=r"it: .* cannot be a path below here; give one such as"):
        path_below(Path("here"), name, "it")
