"""Functions that make a project's own fixtures: engines and mock servers of any scope.

They are for a ``conftest.py``, where the name of the variable is the name of the fixture::

    judge = engine_fixture("ollama", model="qwen3:4b", scope="session")
    llm_server = mock_server_fixture(model="gpt-4o", scope="module")
    llm = mock_engine_fixture("llm_server", scope="module")
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.plugin import run
from pytest_llmengine.plugin.markers import BACKEND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, TypeAlias

    from llmengine import Engine
    from llmengine.mock import MockServer

    Scope: TypeAlias = Literal["function", "class", "module", "package", "session"]

__all__ = ["engine_fixture", "mock_engine_fixture", "mock_server_fixture"]


def engine_fixture(
    engine: str | None = None,
    *,
    model: str | None = None,
    api_key_env: str | None = None,
    scope: Scope = "function",
) -> Any:
    """A fixture with an engine of its own.

    ``engine`` is a name as for ``--engine``; without it, the fixture has the run's engine.
    ``model`` and ``api_key_env``, the variable that holds the key, replace those of the engine.

    A recording of the fixture is one cassette. It is named after the fixture, and is in the folder
    of the test, the module or the package, or in ``session``.
    """

    def opened(request: pytest.FixtureRequest, name: str) -> Iterator[Engine]:
        from pytest_llmengine.plugin.engines import open_apart  # noqa: PLC0415 - imported when used

        with ExitStack() as stack:
            session = run.pool(request.config).open_apart(name, model, api_key_env)
            yield open_apart(request, stack, session).engine

    if engine is not None:

        def named(request: pytest.FixtureRequest) -> Iterator[Engine]:
            """An engine of the project."""
            yield from opened(request, engine)

        return _fixture(named, scope, lambda config: run.backend_named(config, engine))

    def of_the_run(request: pytest.FixtureRequest, llmengine_name: str) -> Iterator[Engine]:
        """The run's engine."""
        yield from opened(request, llmengine_name)

    return _fixture(of_the_run, scope)


def mock_server_fixture(*, scope: Scope = "function", **options: Any) -> Any:
    """A fixture with a running `llmengine.mock.MockServer`; the options are those of the class.

    The end of the fixture fails if the server was not used as its replies were set.
    """

    def server() -> Iterator[MockServer]:
        """A mock server of the project."""
        from llmengine.mock import MockServer  # noqa: PLC0415 - imported when used

        with MockServer(**options) as started:
            yield started
            try:
                started.assert_as_scripted()
            except AssertionError as error:
                raise pytest.fail.Exception(str(error), pytrace=False) from None

    return _fixture(server, scope, lambda _: "mock")


def mock_engine_fixture(
    server: str = "mock_server", *, api_key: str | None = None, scope: Scope = "function"
) -> Any:
    """A fixture with a client of the mock server that another fixture starts, given by its name."""

    def client(request: pytest.FixtureRequest) -> Iterator[Engine]:
        """A client of a mock server of the project."""
        from pytest_llmengine.plugin.engines import client_of  # noqa: PLC0415 - imported when used

        with client_of(request.getfixturevalue(server), api_key) as engine:
            yield engine

    return _fixture(client, scope, lambda _: "mock")


def _fixture(
    function: Callable[..., Any],
    scope: Scope,
    backend: Callable[[pytest.Config], str | None] | None = None,
) -> Any:
    """A fixture whose tests get the marker of a backend."""
    if backend is not None:
        setattr(function, BACKEND, backend)
    return pytest.fixture(scope=scope)(function)
