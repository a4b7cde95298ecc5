"""The engines of one test, each with the test's own cassette.

The name of a cassette follows from the test alone, so that it is the same on every machine, with
every engine and from every folder.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from llmengine import EngineConfig
from llmengine.types.errors import ConfigError
from llmengine.types.file_names import file_name
from pytest_llmengine.plugin.cassette_outcomes import is_guarded, shared, watch, watch_network
from pytest_llmengine.plugin.extensions import recording_config
from pytest_llmengine.plugin.markers import NAME
from pytest_llmengine.plugin.missing_engine import cannot_open
from pytest_llmengine.recording import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.network import guarded
from pytest_llmengine.targets import AlreadyRecorded, EngineMissing, Mode, TargetError, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager, ExitStack

    from llmengine import Engine
    from llmengine.mock import MockServer
    from pytest_llmengine.plugin.pool import Pool
    from pytest_llmengine.recording import Cassette, RecordingConfig
    from pytest_llmengine.targets import Session


_INSTALL = {
    "openai": "pip install 'pytest-llmengine[openai]'",
    "vllm_local": "pip install 'pytest-llmengine[vllm]'",
}


class EngineOpener:
    """Opens engines for one test; the same name gives the same session."""

    def __init__(
        self, item: pytest.Item, pool: Pool, stack: ExitStack, recording: RecordingConfig
    ) -> None:
        self._item = item
        self._pool = pool
        self._stack = stack
        self._recording = recording
        self._sessions: dict[str, Session] = {}

    def __call__(self, name: str) -> Session:
        """The session of an engine; if it cannot be opened, the test ends with one line."""
        if name not in self._sessions:
            self._sessions[name] = self._open(name)
        return self._sessions[name]

    def for_backend(self, backend: str) -> Session:
        """The session for a backend's fixture; see `__call__`."""
        if not is_installed(backend):
            command = _INSTALL.get(backend, "pip install -U pytest-llmengine")
            reason = f"the backend {backend!r} is not installed; run: {command}"
            raise cannot_open(self._item.config, EngineMissing(reason))
        return self(self._pool.name_for_backend(backend))

    def _open(self, name: str) -> Session:
        try:
            session = self._pool.open(name)
        except TargetError as error:
            raise cannot_open(self._item.config, error) from None
        if session.mode is Mode.REPLAY and not is_guarded(self._item):
            watch_network(self._item, self._stack.enter_context(guarded()))
        cassette = self._cassette(session)
        if cassette is not None:
            watch(self._item, session, cassette)
        return session

    def _cassette(self, session: Session) -> Cassette | None:
        name, is_live = cassette_name(self._item), self._item.get_closest_marker("live")
        try:
            if is_live and session.replays(name, self._recording):
                pytest.skip(
                    f"marked live, and {session.name} is replayed; run it with --engine-mode=live"
                )
            cassette = session.cassette(name, self._recording)
            return self._stack.enter_context(cassette)
        except AlreadyRecorded as error:
            pytest.skip(str(error))
        except CassetteNotFoundError as error:
            command = session.record_command(self._item.nodeid)
            raise _failed(f"there is no cassette {error.path}; record it: {command}") from None
        except (CassetteError, ConfigError, TargetError) as error:
            raise _failed(str(error)) from None


def open_apart(
    request: pytest.FixtureRequest, stack: ExitStack, opened: AbstractContextManager[Session]
) -> Session:
    """Open a session for a fixture of its own, with a cassette that is open as long as it lives.

    A request that was not recorded fails the end of the fixture. After a failed test that uses the
    fixture, an earlier recording stays as it is.
    """
    path = f"{_cassette_path(request.node.nodeid) or 'session'}/{request.fixturename}"
    try:
        session = stack.enter_context(opened)
    except TargetError as error:
        raise cannot_open(request.config, error) from None
    try:
        cassette = stack.enter_context(session.cassette(path, recording_config(request.config)))
    except AlreadyRecorded as error:
        raise pytest.skip.Exception(str(error)) from None
    except CassetteNotFoundError as error:
        command = session.record_command()
        raise _failed(f"there is no cassette {error.path}; record it: {command}") from None
    except (CassetteError, ConfigError, TargetError) as error:
        raise _failed(str(error)) from None
    if cassette is not None:
        stack.enter_context(shared(request, cassette))
        stack.callback(_fail_on_unhandled, cassette, session)
    return session


def _fail_on_unhandled(cassette: Cassette, session: Session) -> None:
    if cassette.unhandled:
        command = f"to record {cassette.path} again: {session.record_command(rewrite=True)}"
        raise _failed("\n".join((*cassette.unhandled, f"{session.name}: {command}")))


@contextmanager
def client_of(server: MockServer, api_key: str | None = None) -> Iterator[Engine]:
    """A client of a mock server."""
    fields = {
        "name": "mock",
        "backend": "mock",
        "model": server.model,
        "endpoint": server.base_url,
        "api_key": api_key,
    }
    with EngineConfig.model_validate(fields).engine as engine:
        yield engine


def _failed(reason: str) -> BaseException:
    """A test failure of one line, without a traceback."""
    return pytest.fail.Exception(reason, pytrace=False)


def cassette_name(item: pytest.Item) -> str:
    """The path of a test's cassette without folder and suffix, such as ``tests/test_a/test_b[c]``.

    It follows from the node id. The engine's name is left out, because it is the name of the
    folder. The marker ``llmengine_cassette`` replaces the name.
    """
    marker = item.get_closest_marker("llmengine_cassette")
    if marker is not None:
        return str(marker.args[0])
    return _cassette_path(_without_engine(item))


def _cassette_path(nodeid: str) -> str:
    file, *names = nodeid.split("::")
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
    """The parts of a test's id, without the first occurrence of the parts of an engine's name."""
    for start in range(len(tokens)):
        if tokens[start : start + len(name)] == name:
            return tokens[:start] + tokens[start + len(name) :]
    return tokens
