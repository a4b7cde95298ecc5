"""The library's public face: its names, its weight, and its independence."""

from __future__ import annotations

import subprocess
import sys

import llmengine

HEAVY = {
    "httpx",
    "aiohttp",
    "pydantic",
    "yaml",
    "starlette",
    "uvicorn",
    "stamina",
    "openai",
    "pytest",
}


def test_all_names_exist_and_are_sorted() -> None:
    """``__all__`` is the sorted list of names that can be imported."""
    assert llmengine.__all__ == sorted(llmengine.__all__, key=str.casefold)
    for name in llmengine.__all__:
        assert getattr(llmengine, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    assert not hasattr(llmengine, "EngineConfg")


def test_importing_loads_nothing_heavy() -> None:
    """The package itself brings in no client, no server and no pytest."""
    code = "import sys, llmengine; print(' '.join(sys.modules))"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert HEAVY.isdisjoint(loaded)


def test_first_call_loads_no_other_client() -> None:
    """An engine is made without httpx, the server side, or any SDK."""
    code = (
        "import sys; from llmengine import EngineConfig; "
        "EngineConfig(backend='vllm_api', model='m').engine; print(' '.join(sys.modules))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"httpx", "starlette", "uvicorn", "openai", "pytest"}.isdisjoint(loaded)
