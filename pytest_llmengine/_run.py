"""What belongs to one run of pytest: its settings, its open engines, its verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine._markers import (
    BACKEND_OF_FIXTURE,
    MARKER_OF_BACKEND,
    NAME,
    fixtures_of,
    name_of,
)
from pytest_llmengine._options import ENGINE, REPORT, chosen, given, settings_of
from pytest_llmengine._verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_llmengine._pool import Pool
    from pytest_llmengine.targets.settings import Settings

_settings = pytest.StashKey["Settings"]()
_pool = pytest.StashKey["Pool"]()


def begin(config: pytest.Config) -> None:
    """Look at what was asked for by hand: a wrong name or path is told before any test runs."""
    report = chosen(config, REPORT)
    config.pluginmanager.register(Verdicts(report), "llmengine-verdicts")
    if report is not None:
        _check_report(report)
    for name in settings(config).engines if given(config, ENGINE) else ():
        _backend(config, name)


def end(config: pytest.Config) -> None:
    """Close what was opened."""
    if _pool in config.stash:
        config.stash[_pool].close()


def settings(config: pytest.Config) -> Settings:
    """The run's settings, read when they are first needed."""
    if _settings not in config.stash:
        config.stash[_settings] = settings_of(config)
    return config.stash[_settings]


def pool(config: pytest.Config) -> Pool:
    """The run's engines."""
    if _pool not in config.stash:
        from pytest_llmengine._pool import Pool  # noqa: PLC0415 - unused runs stay light

        config.stash[_pool] = Pool(settings(config))
    return config.stash[_pool]


def backends_of(item: pytest.Item) -> list[str]:
    """The backends that a test uses through our fixtures."""
    fixtures = fixtures_of(item)
    backends = [BACKEND_OF_FIXTURE[f] for f in sorted(fixtures & BACKEND_OF_FIXTURE.keys())]
    if "mock_server" in fixtures:
        backends.append("mock")
    if NAME in fixtures:
        backends.append(_backend(item.config, _aimed_at(item)))
    return backends


def header(config: pytest.Config, items: Iterable[pytest.Item]) -> list[str]:
    """A line for each engine that the tests use and that answers; the tests tell of the others."""
    ...


def _aimed_at(item: pytest.Item) -> str:
    return name_of(item) or settings(item.config).engines[0]


def _backend(config: pytest.Config, name: str) -> str:
    if name in MARKER_OF_BACKEND ...
