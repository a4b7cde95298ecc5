"""Markers of engines, which tests get from the fixtures that they request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.short_names import MARKER_OF_BACKEND

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

# The parameter and the fixture with the name of the engine that a test runs on.
NAME = "llmengine_name"
# The parameter with the check of the contract that a test runs.
CHECK = "llmengine_check"
# The parameter with the kind of prompts that a parity test compares two sides by.
KIND = "llmengine_kind"

# The attribute of a function that makes a fixture, which says by a config which backend it uses.
BACKEND = "llmengine_backend"

BACKEND_OF_FIXTURE = {
    "embedded_engine": "embedded",
    "ollama_engine": "ollama_api",
    "vllm_engine": "vllm_api",
    "openai_engine": "openai",
    "vllm_local_engine": "vllm_local",
}

_OTHERS = {
    "live": "needs a live server: skipped in a replay",
    "docker": "needs Docker",
    "gpu": "needs a GPU",
    "parity": "compares two engines",
    "llmengine_cassette(name)": "record to and replay from this cassette instead of the test's own",
}


def register(config: pytest.Config) -> None:
    """Register every marker with pytest."""
    for backend, marker in MARKER_OF_BACKEND.items():
        meaning = f"uses the backend {backend} (added by the fixtures that a test requests)"
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    for marker, meaning in _OTHERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def fixtures_of(item: pytest.Item) -> set[str]:
    """The fixtures that a test requests, directly or through other fixtures."""
    return set(getattr(item, "fixturenames", ()))


def backends_by_name(fixtures: set[str]) -> list[str]:
    """The backends that have a fixture among these."""
    return [backend for fixture, backend in BACKEND_OF_FIXTURE.items() if fixture in fixtures]


def backends_by_factory(item: pytest.Item) -> list[str]:
    """The backends of the fixtures of a test that `pytest_llmengine.fixtures` has made."""
    found = getattr(item, "_fixtureinfo", None)
    definitions = () if found is None else found.name2fixturedefs.values()
    functions = [getattr(fixtures[-1].func, BACKEND, None) for fixtures in definitions if fixtures]
    backends = [function(item.config) for function in functions if function is not None]
    return [backend for backend in backends if backend is not None]


def name_group(item: pytest.Item) -> None:
    """Let ``-k`` select a check by its group, even if the id does not start with the group."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and CHECK in callspec.params:
        item.extra_keyword_matches.add(callspec.params[CHECK].group)


def name_of(item: pytest.Item) -> str | None:
    """The engine that a test is parametrised with, or None."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(NAME) if callspec is not None else None


def mark(item: pytest.Item, backends: Iterable[str]) -> None:
    """Add the markers of these backends to a test, so that ``-m ollama`` selects it."""
    for backend in backends:
        if marker := MARKER_OF_BACKEND.get(backend):
            item.add_marker(marker)
