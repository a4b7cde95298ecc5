"""What a project adds through hooks and fixtures: options of recordings, and its own transports.

The library is imported only if a project implements a hook, or when a test uses an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.plugin.recording_options import given_options, written_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.recording import RecordingConfig

_RECORDING_HOOK = "pytest_llmengine_recording_config"
_TRANSPORTS_HOOK = "pytest_llmengine_transports"
RECORDING_FIXTURE = "llmengine_recording_config"

_project = pytest.StashKey["RecordingConfig"]()
_called = pytest.StashKey[list[str]]()
_transports = pytest.StashKey[list[str]]()


def begin_extensions(config: pytest.Config) -> None:
    """Call the hooks that a project implements; raises UsageError if a result is wrong.

    The options of recordings in the ini file and on the command line are checked too.
    """
    config.stash[_called] = _implementers(config, _RECORDING_HOOK)
    if any([*config.stash[_called], *written_options(config), *given_options(config)]):
        recording_config(config)
    if _implementers(config, _TRANSPORTS_HOOK):
        _register_transports(config)


def end_extensions(config: pytest.Config) -> None:
    """Remove the transports of the run."""
    if names := config.stash.get(_transports, []):
        from llmengine.transport.registry import unregister_transports  # noqa: PLC0415 - imported when used

        unregister_transports(names)


def recording_config(config: pytest.Config) -> RecordingConfig:
    """The run's configuration of recordings: from the ini file, the hook and the command line."""
    return _extended(_config_of_project(config), given_options(config))


def recording_config_of_test(config: pytest.Config, options: object) -> RecordingConfig:
    """The run's configuration of recordings with a fixture's options; fails the test if wrong."""
    from llmengine.types.errors import InvalidFieldError  # noqa: PLC0415 - imported when used

    recording = _config_of_project(config)
    for plugin in _implementers(config, _RECORDING_HOOK):
        if plugin not in config.stash[_called]:
            raise pytest.fail.Exception(
                f"{plugin} implements {_RECORDING_HOOK}, but pytest loaded it after the start of "
                f"the run, when the hook is called; override the fixture {RECORDING_FIXTURE} there",
                pytrace=False,
            )
    try:
        recording = recording.extended(options, f"fixture {RECORDING_FIXTURE}")
    except InvalidFieldError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    return _extended(recording, given_options(config))


def _config_of_project(config: pytest.Config) -> RecordingConfig:
    """The options of the ini file and of the hook, read on the first call."""
    if _project not in config.stash:
        from pytest_llmengine.recording import RecordingConfig  # noqa: PLC0415 - imported when used

        # pytest calls the plugin that was registered last first; its options win.
        results = reversed(config.hook.pytest_llmengine_recording_config(config=config))
        source = _source(config, _RECORDING_HOOK)
        of_hook = ((source, options) for options in results)
        recording = _extended(RecordingConfig(), written_options(config))
        config.stash[_project] = _extended(recording, of_hook)
    return config.stash[_project]


def _extended(recording: RecordingConfig, options: Iterable[tuple[str, object]]) -> RecordingConfig:
    """The configuration with further options, each from the source that it is given with."""
    from llmengine.types.errors import InvalidFieldError  # noqa: PLC0415 - imported when used

    try:
        for source, values in options:
            recording = recording.extended(values, source)
    except InvalidFieldError as error:
        raise pytest.UsageError(str(error)) from error
    return recording


def _register_transports(config: pytest.Config) -> None:
    from llmengine.transport.registry import register_transports  # noqa: PLC0415 - imported when used
    from llmengine.types.errors import InvalidFieldError  # noqa: PLC0415 - the same

    source = _source(config, _TRANSPORTS_HOOK)
    names = config.stash.setdefault(_transports, [])
    for factories in config.hook.pytest_llmengine_transports(config=config):
        if not isinstance(factories, dict):
            raise pytest.UsageError(
                f"{source} returned {factories!r}; return a dict from names to factories"
            )
        try:
            register_transports(factories)
        except InvalidFieldError as error:
            raise pytest.UsageError(f"{source}: {error}") from error
        names += factories


def _implementers(config: pytest.Config, hook: str) -> list[str]:
    """The plugins that implement a hook; a ``conftest.py`` is named by its path."""
    return [
        implementation.plugin_name for implementation in getattr(config.hook, hook).get_hookimpls()
    ]


def _source(config: pytest.Config, hook: str) -> str:
    return f"{hook} ({', '.join(_implementers(config, hook))})"
