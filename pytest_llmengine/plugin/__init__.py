"""The pytest plugin: its hooks and fixtures.

The plugin does nothing until an option or fixture of it is used. This module imports nothing heavy.
What hooks and fixtures do is in the modules beside it; those that need a client or a recorder are
imported when a test asks for an engine.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.plugin import hooks, markers, reporting, run
from pytest_llmengine.plugin.cassette_outcomes import fail_on_unhandled, note_outcome
from pytest_llmengine.plugin.drift import DriftChecker, attach_drift
from pytest_llmengine.plugin.extensions import recording_config_of_test
from pytest_llmengine.plugin.markers import CHECK, KIND, NAME
from pytest_llmengine.plugin.mock_outcomes import (
    fail_on_mock_server,
    report_mock_server,
    watch_mock_server,
)
from pytest_llmengine.plugin.options import OPTIONS, add_options, add_short_flags
from pytest_llmengine.plugin.recording_options import RECORDING_OPTIONS
from pytest_llmengine.vcr_protection import protect

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from llmengine import Engine
    from llmengine.mock import MockServer
    from pytest_llmengine.plugin.engines import EngineOpener
    from pytest_llmengine.plugin.judge import Judge
    from pytest_llmengine.plugin.parity import Comparer
    from pytest_llmengine.recording import RecordingOptions

pytest.register_assert_rewrite(
    "pytest_llmengine.contract.test_contract", "pytest_llmengine.parity.test_parity"
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks by which a project configures recordings and adds transports."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and their ini keys."""
    add_options(parser, (*OPTIONS, *RECORDING_OPTIONS))


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Add flags with common names after the ``conftest.py`` files, whose own options win."""
    result = yield
    add_short_flags(parser, args)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Register markers, and stop the run if an option is wrong."""
    markers.register(config)
    run.begin(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what the run opened."""
    run.end(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests with engines, contract tests with checks, and parity tests with kinds."""
    if CHECK in metafunc.fixturenames:
        metafunc.parametrize((CHECK, NAME), list(run.contract_rows(metafunc.config)))
    elif KIND in metafunc.fixturenames:
        metafunc.parametrize(KIND, run.parity_kinds(metafunc.config) or [None])
    elif NAME in metafunc.fixturenames:
        engines = run.settings(metafunc.config).engines
        if len(engines) > 1:
            metafunc.parametrize(NAME, engines, scope="session")  # for fixtures of any scope


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with the engines that it uses, and name the group of its check."""
    markers.name_group(item)
    markers.mark(item, run.backends_of(item))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Say which engines the collected tests use, and where their answers come from."""
    silent = config.getoption("collectonly") or hasattr(config, "workerinput")
    return [] if silent else run.header(config, items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Open the engines of a test before its fixtures, which may mock HTTP clients."""
    run.open_engines(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that sent an unrecorded request, even if its client hid the error.

    A test that passed fails too if its mock server was not used as scripted.
    """
    __tracebackhide__ = True
    try:
        result = yield
    except BaseException:
        fail_on_unhandled(item)
        report_mock_server(item)
        raise
    fail_on_unhandled(item)
    fail_on_mock_server(item)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the verdict and the played cassettes to a test's report, and remove keys from it."""
    report = yield
    reporting.attach(item, report)
    attach_drift(item, report)
    note_outcome(item, report)
    reporting.attach_sources(report, run.new_sources(item))
    reporting.scrub_report(report)
    if run.backends_of(item):
        reporting.attach_recordings(report, run.pool(item.config))
        reporting.make_printable(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Remove keys from the report of a module that cannot be imported."""
    report = yield
    reporting.scrub_report(report)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let the workers of pytest-xdist share the containers of the run."""
    run.send_owner(node)


@pytest.hookimpl(optionalhook=True)
def pytest_recording_configure(vcr: Any) -> None:
    """Keep the keys of engines out of the cassettes of pytest-recording."""
    protect(vcr)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, object, object]:
    """Keep the keys of engines out of the cassettes of pytest-vcr, whose fixture makes the VCR."""
    value = yield
    if fixturedef.argname == "vcr" and hasattr(value, "get_merged_config"):
        protect(value)
    return value


@pytest.fixture(name=NAME, scope="session")
def _name(pytestconfig: pytest.Config) -> str:
    """The name of the engine that the test runs with."""
    return run.settings(pytestconfig).engines[0]


@pytest.fixture(scope="session")
def llmengine_recording_config() -> RecordingOptions:
    """Options for recordings and replays, as a dict; a project overrides this fixture.

    For example ``{"redact_paths": ["$.user"], "ignore_paths": ["$.metadata.sent_at"]}``. The names
    are those of `pytest_llmengine.recording.RecordingOptions`.
    """
    return {}


@pytest.fixture
def llmengine_use(
    request: pytest.FixtureRequest, llmengine_recording_config: RecordingOptions
) -> Iterator[EngineOpener]:
    """Opens any engine by name, with the test's own cassette: ``llmengine_use("qwen").engine``."""
    from pytest_llmengine.plugin.engines import EngineOpener  # noqa: PLC0415 - imported when used

    config = request.config
    recording = recording_config_of_test(config, llmengine_recording_config)
    with ExitStack() as stack:
        yield EngineOpener(request.node, run.pool(config), stack, recording)
    fail_on_unhandled(request.node)


@pytest.fixture
def llmengine_judge(request: pytest.FixtureRequest, llmengine_name: str) -> Judge:
    """Runs a check of the contract on the engine and keeps the verdict for the report."""
    from pytest_llmengine.plugin.judge import Judge  # noqa: PLC0415 - imported when used

    config = request.config
    profile = run.profile(config)
    return Judge(request.node, run.pool(config), run.settings(config), llmengine_name, profile)


@pytest.fixture
def llmengine_parity(request: pytest.FixtureRequest, llmengine_use: EngineOpener) -> Comparer:
    """Compares the run's two sides by the prompts of one kind."""
    from pytest_llmengine.plugin.parity import Comparer  # noqa: PLC0415 - imported when used

    engine = run.settings(request.config).engines[0]
    return Comparer(request.config, llmengine_use, engine)


@pytest.fixture
def drift_baseline(request: pytest.FixtureRequest, llmengine_name: str) -> DriftChecker:
    """Fails the test unless the engine still answers as it did: ``drift_baseline("FILE")``."""
    return DriftChecker(request.node, run.pool(request.config), llmengine_name)


@pytest.fixture
def engine(llmengine_name: str, llmengine_use: EngineOpener) -> Engine:
    """The engine that ``--engine`` names; by default ``embedded``."""
    return llmengine_use(llmengine_name).engine


@pytest.fixture
def embedded_engine(llmengine_use: EngineOpener) -> Engine:
    """An engine that uses llama.cpp on this machine, with a small real model."""
    return llmengine_use.for_backend("embedded").engine


@pytest.fixture
def ollama_engine(llmengine_use: EngineOpener) -> Engine:
    """An engine that uses an Ollama server."""
    return llmengine_use.for_backend("ollama_api").engine


@pytest.fixture
def vllm_engine(llmengine_use: EngineOpener) -> Engine:
    """An engine that uses vLLM's HTTP server."""
    return llmengine_use.for_backend("vllm_api").engine


@pytest.fixture
def openai_engine(llmengine_use: EngineOpener) -> Engine:
    """An engine that uses OpenAI's API."""
    return llmengine_use.for_backend("openai").engine


@pytest.fixture
def vllm_local_engine(llmengine_use: EngineOpener) -> Engine:
    """An engine that runs vLLM in this process."""
    return llmengine_use.for_backend("vllm_local").engine


@pytest.fixture
def mock_server(request: pytest.FixtureRequest) -> Iterator[MockServer]:
    """A mock server for this test only: ``.when(contains="Hi").reply("Hello")``.

    The test fails if a reply that it set was not asked for, or if a request had none.
    """
    from llmengine.mock import MockServer  # noqa: PLC0415 - imported when used

    with MockServer() as server:
        watch_mock_server(request.node, server)
        yield server


@pytest.fixture
def mock_engine(mock_server: MockServer) -> Iterator[Engine]:
    """A client of `mock_server`."""
    from pytest_llmengine.plugin.engines import client_of  # noqa: PLC0415 - imported when used

    with client_of(mock_server) as engine:
        yield engine


@pytest.fixture
def dspy_lm(
    request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A DSPy language model over `engine`, set in DSPy's settings while the test runs."""
    from pytest_llmengine.plugin.dspy_lm import in_settings  # noqa: PLC0415 - imported when used

    with in_settings(engine, request.config, tmp_path_factory) as lm:
        yield lm
