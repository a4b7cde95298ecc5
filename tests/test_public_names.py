"""The public names of the library, what its import loads, and its dependencies."""

from __future__ import annotations

import subprocess
import sys

import llmengine

HEAVY = {
    "httpx",
    "httptools",
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
    """A misspelt name is the usual error of a module."""
    assert not hasattr(llmengine, "EngineConfg")


def test_importing_loads_nothing_heavy() -> None:
    """The package imports no client, no server and no pytest."""
    code = "import sys, llmengine; print(' '.join(sys.modules))"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert HEAVY.isdisjoint(loaded)


def test_first_call_loads_no_other_client() -> None:
    """Making an engine imports neither httpx nor a server nor an SDK."""
    code = (
        "import sys; from llmengine import EngineConfig; "
        "EngineConfig(backend='vllm_api', model='m').engine; print(' '.join(sys.modules))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"httpx", "starlette", "uvicorn", "openai", "pytest"}.isdisjoint(loaded)
