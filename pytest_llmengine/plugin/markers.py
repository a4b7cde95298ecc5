"""Markers of the engines: put on tests by the fixtures that they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.short_names import MARKER_OF_BACKEND

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

# The parameter, and the fixture, that hold the name of the engine that a test is aimed at.
NAME = "llmengine_name"
# The parameter that holds the check of the contract that a test runs.
CHECK = "llmengine_check"
# The parameter that holds the kind of prompts that a test compares two sides by.
KIND = "llmengine_kind"

BACKEND_OF_FIXTURE = {
    "embedded_engine": "embedded",
    "ollama_engine": "ollama_api",
    "vllm_engine": "vllm_api",
    "openai_engine": "openai",
    "vllm_local_engine": "vllm_local",
}

_OTHERS = {
    "live": "needs a live server: skipped where answers are replayed",
    "docker": "needs Docker",
    "gpu": "needs a GPU",
    "parity": "compares two engines",
    "llmengine_cassette(name)": "record to and replay from this cassette instead of the test's own",
}


def register(config: pytest.Config) -> None:
    """Tell pytest of every marker."""
    for backend, marker in MARKER_OF_BACKEND.items():
        meaning = f"uses the backend {backend} (added by the fixtures that a test asks for)"
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    for marker, meaning in _OTHERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def fixtures_of(item: pytest.Item) -> set[str]:
    """The fixtures that a test asks for, also by way of others."""
    return set(getattr(item, "fixturenames", ()))


def backends_by_name(fixtures: set[str]) -> list[str]:
    """The backends whose own fixtures are among these."""
    return [backend for fixture, backend in BACKEND_OF_FIXTURE.items() if fixture in fixtures]


def name_group(item: pytest.Item) -> None:
    """Let ``-k`` select a check by its group, which need not be the start of its id."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and CHECK in callspec.params:
        item.extra_keyword_matches.add(callspec.params[CHECK].group)


def name_of(item: pytest.Item) -> str | None:
    """The engine that a test is parametrised with, if it is."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(NAME) if callspec is not None else None


def mark(item: pytest.Item, backends: Iterable[str]) -> None:
    """Put the markers of these backends on a test, so that ``-m ollama`` selects it."""
    for backend in backends:
        if marker := MARKER_OF_BACKEND.get(backend):
            item.add_marker(marker)
