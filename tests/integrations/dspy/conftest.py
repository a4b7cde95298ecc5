"""A mock server, and its answers in the form that the installed DSPy reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig
from llmengine.integrations.dspy import Generation, installed_version
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# DSPy reads these at import. Otherwise it fetches prices and writes to the home folder.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="dspy-"))
os.environ.setdefault("DSP_CACHEBOOL", "false")

# Warnings of the libraries that DSPy uses, which this project cannot fix.
_NOISE = (
    "ignore:.* using the `ReadOnly` qualifier:UserWarning",
    "ignore:The inplace keyword in DataFrame",
    # litellm leaves connections and event loops to the garbage collector.
    "ignore:.*(socket|_SelectorTransport|BaseEventLoop):pytest.PytestUnraisableExceptionWarning",
)

_MISSING = "DSPy is missing; run: nox -s dspy-2.4.9 dspy-3.1.2 dspy-latest"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let DSPy's own dependencies warn without failing a test of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for noise in _NOISE:
                item.add_marker(pytest.mark.filterwarnings(noise))


@pytest.fixture(scope="session")
def generation() -> Generation:
    """The generation of the installed DSPy; skips if DSPy is not installed."""
    try:
        return Generation.of(installed_version())
    except ConfigError:
        pytest.skip(_MISSING)


@pytest.fixture
def dspy(generation: Generation) -> Iterator[Any]:
    """DSPy, with the settings that it has after its import."""
    module = pytest.importorskip("dspy", reason=_MISSING)
    if generation is not Generation.LEGACY:
        module.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with module.settings.context(lm=None):
        yield module


@pytest.fixture
def legacy(dspy: Any, generation: Generation) -> Any:
    """DSPy 2.4; skips on later ones."""
    if generation is not Generation.LEGACY:
        pytest.skip("it is about DSPy 2.4; run: nox -s dspy-2.4.9")
    return dspy


@pytest.fixture
def modern(dspy: Any, generation: Generation) -> Any:
    """DSPy 2.5 or later; skips on 2.4, which does not have the tested feature."""
    if generation is Generation.LEGACY:
        pytest.skip("DSPy 2.4 has no such thing; run: nox -s dspy-3.1.2 dspy-latest")
    return dspy


@pytest.fixture
def newest(dspy: Any, generation: Generation) -> Any:
    """DSPy 3.4 or later; skips on earlier ones."""
    if generation is not Generation.ENGINE:
        pytest.skip("it is about the engines of DSPy 3.4; run: nox -s dspy-latest")
    return dspy


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A server whose answers a test can script."""
    with MockServer() as running:
        yield running


@pytest.fixture
def config(server: MockServer) -> EngineConfig:
    """A configuration for that server, with an ordinary backend and no waits before retries."""
    return aimed_at(server)


def aimed_at(server: MockServer, **fields: Any) -> EngineConfig:
    """The configuration of an engine for a mock server."""
    known = {"backend": "openai_compatible", "model": server.model, "endpoint": server.base_url}
    waits = {"retry_wait": 0.001, "structured": "json_schema"}
    return EngineConfig.model_validate(known | waits | fields)


@pytest.fixture
def aim() -> Callable[..., EngineConfig]:
    """Makes configurations of engines for mock servers."""
    return aimed_at


@pytest.fixture
def says(generation: Generation) -> Callable[..., str]:
    """Writes an answer's fields in the format of the installed DSPy."""

    def spell(**fields: str) -> str:
        if generation is Generation.LEGACY:
            first, *others = fields.items()
            return "\n".join([first[1], *(f"{k.title()}: {v}" for k, v in others)])
        marked = (f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
        return "\n\n".join([*marked, "[[ ## completed ## ]]"])

    return spell


@pytest.fixture
def answering(server: MockServer, says: Callable[..., str]) -> Callable[..., None]:
    """Scripts the server's next answers, given by their fields."""

    def play(*answers: dict[str, str]) -> None:
        server.play(Script(replies=[says(**answer) for answer in answers]))

    return play
