"""Which cassette belongs to a test, whatever machine, engine or folder it runs from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.file_names import file_name
from pytest_llmengine.plugin.markers import NAME

if TYPE_CHECKING:
    import pytest


def cassette_name(item: pytest.Item) -> str:
    """The path of a test's cassette without folder and suffix, such as ``tests/test_a/test_b[c]``.

    It follows the node id. The engine's name is left out, as it is the name of the folder; the
    marker ``llmengine_cassette`` gives another.
    """
    marker = item.get_closest_marker("llmengine_cassette")
    if marker is not None:
        return str(marker.args[0])
    file, *names = _without_engine(item).split("::")
    parts = [*file.removesuffix(".py").split("/"), ".".join(names)]
    return "/".join(file_name(part) for part in parts if part)


def _without_engine(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    if callspec is None or NAME not in callspec.params:
        return item.nodeid
    base = item.nodeid.removesuffix(f"[{callspec.id}]")
    rest = _drop(callspec.id.split("-"), callspec.params[NAME].split("-"))
    return f"{base}[{'-'.join(rest)}]" if rest else base


def _drop(tokens: list[str], name: list[str]) -> list[str]:
    """The tokens of a test's id without the first run of those of an engine's name."""
    for start in range(len(tokens)):
        if tokens[start : start + len(name)] == name:
            return tokens[:start] + tokens[start + len(name) :]
    return tokens
