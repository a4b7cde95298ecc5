"""The hooks that this plugin adds to pytest, for a project's ``conftest.py`` or another plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.transport.base import Transport
    from pytest_llmengine.recording import RecordingOptions


@pytest.hookspec
def pytest_llmengine_recording_config(config: pytest.Config) -> RecordingOptions | None:
    """Return options for all recordings and replays of the run, also for those of the contract.

    The result is a dict of `pytest_llmengine.recording.RecordingOptions`. The fixture
    ``llmengine_recording_config`` adds to it for some tests. If several plugins implement the hook,
    redactions, paths and normalizers add up; of every other option, the value of the plugin that
    was registered last is used, so that a ``conftest.py`` comes after installed plugins.

    The hook is called once, at the start of the run: only the ``conftest.py`` files that pytest
    loads at its start can implement it, such as the one in the rootdir.
    """


@pytest.hookspec
def pytest_llmengine_transports(
    config: pytest.Config,
) -> Mapping[str, Callable[[], Transport]] | None:
    """Return the project's own HTTP transports by name, for ``transport`` in an EngineConfig.

    Each value is a class or a function without arguments that returns a
    `llmengine.transport.base.Transport`. It is called on the event loop that uses the transport.

    The hook is called once, at the start of the run: only the ``conftest.py`` files that pytest
    loads at its start can implement it, such as the one in the rootdir.
    """
