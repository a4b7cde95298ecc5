"""The state of one run of pytest: its settings, open engines, profile and containers."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.plugin.drift import DriftSummary
from pytest_llmengine.plugin.extensions import (
    begin_extensions,
    end_extensions,
    recording_config,
)
from pytest_llmengine.plugin.markers import (
    CHECK,
    NAME,
    backends_by_factory,
    backends_by_name,
    fixtures_of,
    name_of,
)
from pytest_llmengine.plugin.missing_engine import skips_missing
from pytest_llmengine.plugin.options import (
    ENGINE,
    LEVEL,
    PARITY_BASELINE,
    PROFILE,
    REPORT,
    URL,
    chosen,
    given,
    settings_of,
    values_of,
)
from pytest_llmengine.plugin.reporting import Recordings, Sources, Verdicts
from pytest_llmengine.plugin.verification import Comparisons

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.ownership import Owner
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.plugin.pool import Pool
    from pytest_llmengine.targets import Settings


_settings = pytest.StashKey["Settings"]()
_pool = pytest.StashKey["Pool"]()
_profile = pytest.StashKey["Profile | None"]()
_announced = pytest.StashKey[set[str]]()


def begin(config: pytest.Config) -> None:
    """Check the options, so that a wrong value stops the run before any test.

    The names of engines are looked up only if the command line or the environment gives them,
    because the lookup imports the library.
    """
    values_of(config)
    begin_extensions(config)
    if registry := _registry():  # another run in this process may have used the same modules
        registry.recall_rules(config.pluginmanager.get_plugins())
    report = chosen(config, REPORT)
    config.pluginmanager.register(Verdicts(report), "llmengine-verdicts")
    config.pluginmanager.register(Recordings(config), "llmengine-recordings")
    config.pluginmanager.register(Comparisons(), "llmengine-comparisons")
    config.pluginmanager.register(DriftSummary(), "llmengine-drift")
    config.pluginmanager.register(Sources(config), "llmengine-sources")
    if report is not None:
        _check_report(report)
    profile(config)
    if given(config, ENGINE):
        _check_names(config)
    if given(config, PARITY_BASELINE):
        parity_kinds(config)


def end(config: pytest.Config) -> None:
    """Close the engines, remove the run's containers, and forget what conftest.py has added."""
    if _pool in config.stash:
        config.stash[_pool].close()
    end_containers(config)
    end_extensions(config)
    if registry := _registry():
        registry.forget_rules(config.pluginmanager.get_plugins())


def _registry() -> ModuleType | None:
    """The catalogue's module if something has imported it, such as a conftest.py with rules."""
    return sys.modules.get("pytest_llmengine.contract.registry")


def settings(config: pytest.Config) -> Settings:
    """The run's settings, read on the first call."""
    if _settings not in config.stash:
        config.stash[_settings] = replace(
            settings_of(config), owner=owner(config), recording=recording_config(config)
        )
    return config.stash[_settings]


def pool(config: pytest.Config) -> Pool:
    """The run's engines."""
    if _pool not in config.stash:
        from pytest_llmengine.plugin.pool import Pool  # noqa: PLC0415 - imported when used

        config.stash[_pool] = Pool(settings(config), progress_printer(config))
    return config.stash[_pool]


def profile(config: pytest.Config) -> Profile | None:
    """The profile from the options; None if each engine uses its own."""
    if _profile not in config.stash:
        path = chosen(config, PROFILE)
        config.stash[_profile] = None if path is None else _read_profile(path)
    return config.stash[_profile]


def backends_of(item: pytest.Item) -> list[str]:
    """The backends that a test uses through the fixtures of this plugin."""
    fixtures = fixtures_of(item)
    backends = backends_by_name(fixtures) + backends_by_factory(item)
    if "mock_server" in fixtures:
        backends.append("mock")
    if NAME in fixtures and (backend := backend_named(item.config, _engine_of(item))):
        backends.append(backend)
    return backends


def contract_rows(config: pytest.Config) -> Iterator[Any]:
    """Every check of the tier and the levels with every engine of the run.

    If no engine is chosen, these are the engines with recordings of the contract. The checks of an
    engine without a server are skipped, because they are about HTTP.
    """
    from pytest_llmengine.contract.registry import (  # noqa: PLC0415 - imported when used
        Level,
        select,
    )
    from pytest_llmengine.targets import has_server  # noqa: PLC0415 - the same

    levels = [Level(name) for name in chosen(config, LEVEL) or ()]
    try:
        checks = select(tier=settings(config).tier, levels=levels)
    except LookupError as error:
        raise pytest.UsageError(str(error)) from error
    skip = pytest.mark.skip("the contract is about HTTP, and this engine has no server")
    for name in _under_contract(config):
        backend = backend_named(config, name)
        marks = [] if backend is None or has_server(backend) else [skip]
        for check in checks:
            yield pytest.param(check, name, id=f"{name}-{check.id}", marks=marks)


def parity_kinds(config: pytest.Config) -> list[str]:
    """The kinds of prompts by which the run compares two sides."""
    if chosen(config, PARITY_BASELINE) is None:
        return []
    from pytest_llmengine.plugin.parity import kinds_of  # noqa: PLC0415 - imported when used

    return kinds_of(config)


def _under_contract(config: pytest.Config) -> Iterable[str]:
    from pytest_llmengine.targets import TargetError, with_contract  # noqa: PLC0415 - imported when used

    now = settings(config)
    if chosen(config, ENGINE) or chosen(config, URL):
        return now.engines
    try:
        return with_contract(now.cassettes) or now.engines
    except TargetError as error:
        raise pytest.UsageError(str(error)) from error


def header(config: pytest.Config, items: Iterable[pytest.Item]) -> list[str]:
    """One line per engine that the tests use.

    If an engine that the user chose cannot be opened, the run ends here, because all its tests
    would fail for the same reason. For other engines, their own tests fail.
    """
    tests = list(items)
    names = dict.fromkeys(name for item in tests for name in _names(item))
    lines = [line for name in names if (line := _line(config, name))]
    if profile(config) is None and any(CHECK in fixtures_of(item) for item in tests):
        lines += (f"llmengine: {line}" for line in pool(config).advice())
    return lines


def open_engines(item: pytest.Item) -> None:
    """Open the engines that a test's fixtures use; their fixtures report what cannot be opened."""
    for name in _names(item):
        _opens(item.config, name)


def _opens(config: pytest.Config, name: str) -> bool:
    from pytest_llmengine.targets import TargetError  # noqa: PLC0415 - imported when used

    try:
        pool(config).open(name)
    except TargetError:
        return False
    return True


def new_sources(item: pytest.Item) -> dict[str, str]:
    """In a worker of pytest-xdist, the lines of the engines that a test is the first to use."""
    config = item.config
    if not hasattr(config, "workerinput"):
        return {}
    seen = config.stash.setdefault(_announced, set())
    names = [name for name in _names(item) if name not in seen]
    seen.update(names)
    return {name: _described(config, name) for name in names if _opens(config, name)}


def _line(config: pytest.Config, name: str) -> str | None:
    from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used
    from pytest_llmengine.targets import TargetError  # noqa: PLC0415 - the same

    try:
        pool(config).open(name)
    except TargetError as error:
        if skips_missing(config, error):
            return printable(f"llmengine: {name} is missing, its tests are skipped: {error}")
        if name in settings(config).engines and (chosen(config, ENGINE) or chosen(config, URL)):
            raise pytest.UsageError(str(error)) from error
        return None
    return _described(config, name)


def _described(config: pytest.Config, name: str) -> str:
    from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used

    session = pool(config).open(name)
    tier = settings(config).tier.name.lower()
    return printable(f"llmengine: {session.name}, {session.describe()}; tier {tier}")


def _names(item: pytest.Item) -> list[str]:
    """The engines that a test opens, without the test's own mock server."""
    fixtures = fixtures_of(item)
    names = [_name_for_backend(item.config, b) for b in backends_by_name(fixtures)]
    if NAME in fixtures:
        names.append(_engine_of(item))
    return [name for name in names if name is not None]


def _name_for_backend(config: pytest.Config, backend: str) -> str | None:
    """The engine of a backend's fixture; None if there is none, which the fixture then reports."""
    from pytest_llmengine.targets import TargetError, is_installed  # noqa: PLC0415 - imported when used

    try:
        return pool(config).name_for_backend(backend) if is_installed(backend) else None
    except TargetError:
        return None


def _engine_of(item: pytest.Item) -> str:
    return name_of(item) or settings(item.config).engines[0]


def backend_named(config: pytest.Config, name: str) -> str | None:
    """The backend of an engine; None if there is no such engine, which its tests then report."""
    from pytest_llmengine.targets import TargetError  # noqa: PLC0415 - imported when used

    try:
        return pool(config).backend(name)
    except TargetError:
        return None


def _check_names(config: pytest.Config) -> None:
    from pytest_llmengine.targets import TargetError  # noqa: PLC0415 - imported when used

    try:
        for name in settings(config).engines:
            pool(config).backend(name)
    except TargetError as error:
        raise pytest.UsageError(str(error)) from error


def _read_profile(path: Path) -> Profile:
    from pytest_llmengine.contract.profile import ProfileError, read_profile  # noqa: PLC0415 - imported when used

    try:
        return read_profile(path)
    except ProfileError as error:
        raise pytest.UsageError(str(error)) from error
    except OSError as error:
        raise pytest.UsageError(f"profile {path}: {error.strerror}") from error


def _check_report(path: Path) -> None:
    from llmengine.types.errors import ConfigError  # noqa: PLC0415 - imported when used
    from pytest_llmengine.reports import check_report_path  # noqa: PLC0415 - the same

    try:
        check_report_path(path)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error


# The key of the owner in what the controller of pytest-xdist sends to its workers.
_OWNER_KEY = "llmengine_owner"

_owner = pytest.StashKey["Owner"]()


def owner(config: pytest.Config) -> Owner:
    """The owner of the run's containers: in a worker, the controller if it is on this machine."""
    if _owner not in config.stash:
        from pytest_llmengine.containers.ownership import Owner  # noqa: PLC0415 - imported when used

        fields = getattr(config, "workerinput", {}).get(_OWNER_KEY)
        controller = Owner(**fields) if fields else None
        shared = controller is not None and controller.is_here
        config.stash[_owner] = controller if controller and shared else Owner.here()
    return config.stash[_owner]


def send_owner(node: Any) -> None:
    """Send the owner of the run's containers to a worker of pytest-xdist."""
    node.workerinput[_OWNER_KEY] = asdict(owner(node.config))


def end_containers(config: pytest.Config) -> None:
    """Remove the run's containers, if this process owns the run."""
    if _owner in config.stash and config.stash[_owner].is_this_process:
        from pytest_llmengine.containers.ownership import end_run  # noqa: PLC0415 - imported when used

        end_run(config.stash[_owner])


def progress_printer(config: pytest.Config) -> OnProgress:
    """A function that prints a line per step of a container's start, which may take minutes.

    In a worker of pytest-xdist it prints nothing.
    """
    from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used

    last = ""

    def print_step(step: str, done: int, total: int) -> None:  # noqa: ARG001 - a line shows no numbers
        nonlocal last
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or step == last:
            return
        last = step
        capture = config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.ensure_newline()
            terminal.write_line(printable(f"llmengine: {step}"))

    return print_step
