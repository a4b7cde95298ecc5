"""The engines of a run, each opened when it is first used and closed at the end."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmengine.targets import TargetError, config_named, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.targets import Session, Settings
    from pytest_llmengine.targets.session import Played


class Pool:
    """The open sessions by engine name; an engine that could not be opened is not tried again."""

    def __init__(self, settings: Settings, on_progress: OnProgress) -> None:
        self._settings = settings
        self._on_progress = on_progress
        self._stack = ExitStack()
        self._sessions: dict[str, Session | TargetError] = {}
        self._backends: dict[str, str] = {}
        self._played: list[Played] = []  # of sessions that have ended

    def backend(self, name: str) -> str:
        """The backend of an engine; raises TargetError if there is no such engine."""
        if name not in self._backends:
            now = self._settings
            self._backends[name] = config_named(name, now.config, now.cassettes).backend
        return self._backends[name]

    def name_for_backend(self, backend: str) -> str:
        """The engine of a backend's fixture: the run's first of that backend, else the backend."""
        names = self._settings.engines
        return next((name for name in names if self.backend(name) == backend), backend)

    def open(self, name: str) -> Session:
        """The session of an engine; raises the TargetError of the first attempt if that failed."""
        if name not in self._sessions:
            self._sessions[name] = self._try(name)
        session = self._sessions[name]
        if isinstance(session, TargetError):
            raise session
        return session

    @contextmanager
    def open_apart(
        self, name: str, model: str | None, api_key_env: str | None
    ) -> Iterator[Session]:
        """A new session of an engine, with its own model and key if they are given.

        Raises TargetError if it cannot be opened.
        """
        now = self._settings.for_engine(name)
        settings = replace(now, engines=(), model=model or now.model, api_key_env=api_key_env)
        with open_session(name, settings, self._on_progress) as session:
            try:
                yield session
            finally:
                self._played += session.played

    def take_played(self) -> list[Played]:
        """The cassettes that were played since the last call."""
        taken, self._played = self._played, []
        for session in self._sessions.values():
            if not isinstance(session, TargetError):
                taken += session.played
                session.played.clear()
        return taken

    def advice(self) -> list[str]:
        """Advice for open engines whose server was recognised but is checked without a profile."""
        sessions = [s for s in self._sessions.values() if not isinstance(s, TargetError)]
        return [session.advice for session in sessions if session.advice]

    def close(self) -> None:
        """Close every session, the last one first."""
        self._stack.close()

    def _try(self, name: str) -> Session | TargetError:
        try:
            return self._stack.enter_context(open_session(name, self._settings, self._on_progress))
        except TargetError as error:
            return error
