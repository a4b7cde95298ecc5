"""The plan for an engine: its configuration, its address, its mode, and what has to be started.

A plan is made before anything is started.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from llmengine.config.address import base_of, merged_headers, normal_endpoint, root_of
from llmengine.config.backends import backends, load_backend
from llmengine.engine.engine import EngineConfig
from llmengine.engine.files import load_engines
from llmengine.types.errors import ConfigError
from llmengine.types.file_names import file_name, path_below
from pytest_llmengine.containers.lifecycle import serve
from pytest_llmengine.containers.ownership import Owner, end_run
from pytest_llmengine.containers.spec import spec_of
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.recording import CassetteError, RecordingConfig, ReplayCassette
from pytest_llmengine.recording.comparison import AnswerTier
from pytest_llmengine.recording.packed import check_writable, is_packed, place_of, recordings_in
from pytest_llmengine.short_names import BACKEND_OF_MARKER
from pytest_llmengine.targets.advice import (
    no_address,
    no_cassettes,
    no_model,
    no_source,
    not_installed,
    without_server,
)
from pytest_llmengine.targets.settings import EngineMissing, Mode, NotInstalled, TargetError, facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.backends.base import Backend
    from pytest_llmengine.containers.container import ContainerServer
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec
    from pytest_llmengine.recording.config import RecordMode
    from pytest_llmengine.targets.settings import Settings


KEY_VARIABLE = "LLMENGINE_API_KEY"
_NO_KEY = {"api_key": None, "api_key_env": None}  # for containers and replays, which need no key


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session needs: a configuration, a mode, and the place of the engine's cassettes.

    ``folder`` is a folder, or the file in which it is packed. ``record_mode`` says what happens to
    a cassette that exists when recording, as in the settings.
    ``config.endpoint`` is the configured address, if any; a replay does not connect to it.
    ``config.model`` is empty if only the server or the cassettes can name the model. ``container``
    is started first, if there is one. ``in_process`` is true if there is no server. ``source``
    names where the address was configured. ``server_name`` is the name that the user gave to the
    server, "" if there is none. ``limits`` bound the checks of the contract, and ``recording``
    applies to all cassettes. ``fail_on`` is the tier that a verification fails on.
    """

    config: EngineConfig
    mode: Mode
    folder: Path
    record_mode: RecordMode | None
    container: ContainerSpec | None = None
    in_process: bool = False
    source: str = ""
    server_name: str = ""
    limits: Limits = field(default_factory=Limits)
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    fail_on: AnswerTier = AnswerTier.DIFFERENT

    @property
    def plays_first(self) -> bool:
        """Whether requests are answered from the cassettes, and only the others are recorded."""
        return self.mode is Mode.RECORD and self.record_mode in {"once", "new_episodes"}


def make_plan(name: str, settings: Settings) -> Plan:
    """The plan for an engine by its name.

    The mode is the first of these that applies: the mode that was asked for; live, if an address
    is configured or none is needed; replay, if there are cassettes; live, if the engine starts its
    own server, if a key is enough, or if a server answers at the backend's default address.
    Cassettes come before a key because many shells hold a key, and a run must not cost money
    unless the user asked for it. A run that records only what is missing is a replay if there are
    cassettes and nothing can be recorded. Raises TargetError that names the three ways if nothing
    applies, and NotInstalled if the engine's own server is not installed.
    """
    settings = settings.for_engine(name)
    config = config_named(name, settings.config, settings.cassettes)
    config = config.model_copy(update={"headers": merged_headers(config.headers, settings.headers)})
    if settings.api_key_env is not None:
        config = config.model_copy(update={"api_key": None, "api_key_env": settings.api_key_env})
    backend: type[Backend] = load_backend(config.backend)
    url, source = located(config, backend, settings) or (None, _default_of(backend))
    folder = _folder_of(config, settings, url)
    if backend.in_process:
        return _plan_in_process(config, url, settings, folder)
    mode = settings.mode or _mode(config, backend, url, folder)
    plays_first = settings.record_mode in {"once", "new_episodes"}
    if plays_first and _only_replays(config, backend, url, folder):
        mode = Mode.REPLAY
    change: dict[str, Any] = {"endpoint": url, "model": model_of(config, settings)}
    if in_container(mode, url, settings):
        change |= _NO_KEY
        spec = container_for(config.model_copy(update=change), settings)
        change["model"] = spec.model
        return Plan(config.model_copy(update=change), mode, folder, settings.record_mode, spec)
    if mode is Mode.RECORD:
        _need_writable(folder)
    if mode.plays:
        _need_cassettes(config, backend, folder)
    if mode is Mode.REPLAY:
        change |= _NO_KEY
    else:
        _need_address(config, backend, url)
        change |= _own_key(config, settings)
    return Plan(config.model_copy(update=change), mode, folder, settings.record_mode, source=source)


def _plan_in_process(
    config: EngineConfig, url: str | None, settings: Settings, folder: Path
) -> Plan:
    """The plan for an engine without a server: it is always live and its model must be named."""
    if settings.mode not in {None, Mode.LIVE}:
        raise TargetError(without_server(config, f"there is no mode {settings.mode}"))
    if url is not None:
        raise TargetError(without_server(config, f"the address {url} cannot be used"))
    model = model_of(config, settings)
    if not model:
        raise TargetError(no_model(config.name, config.backend))
    config = config.model_copy(update={"model": model})
    return Plan(config, Mode.LIVE, folder, record_mode=None, in_process=True)


def _folder_of(config: EngineConfig, settings: Settings, url: str | None) -> Path:
    """The folder of the cassettes, or the file in which they are packed.

    It has the name that the user gave to the server, else the name of the engine. If the user gave
    only an address, it has the host and the port, so that two servers do not share a folder.

    For a replay of a backend, the recordings of its only server are used if there are no others:
    older versions put what was recorded of an address into the folder of the backend. Raises
    TargetError if a name cannot be a folder, or if there are a folder and a packed file.
    """
    of_engine = _place_below(settings.cassettes, config.name, "the name of an engine")
    if settings.server_name:
        return _place_below(settings.cassettes, settings.server_name, "the name of a server")
    if url is None:
        return _folder_of_server(config, settings, of_engine) or of_engine
    if not settings.by_address:
        return of_engine
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    address = file_name(f"{parts.hostname}{port}")
    of_address = _place_below(settings.cassettes, address, "the name of an address")
    is_old = not recordings_in(of_address) and recordings_in(of_engine)
    return of_engine if is_old and settings.mode is not Mode.RECORD else of_address


def _folder_of_server(config: EngineConfig, settings: Settings, of_engine: Path) -> Path | None:
    """The folder of the only server that was recorded with a backend by its address, if any."""
    plays = settings.mode is None or settings.mode.plays
    may_replay = plays and config.name == config.backend
    if not may_replay or recordings_in(of_engine):
        return None
    cassettes = settings.cassettes
    places = sorted(path for path in cassettes.glob("*") if path.is_dir() or is_packed(path))
    names = dict.fromkeys(path.name.removesuffix(".zip") for path in places)
    found = [name for name in names if _backend_recorded(cassettes, name) == config.name]
    if len(found) > 1 and settings.mode is Mode.REPLAY:
        raise TargetError(
            f"engine {config.name!r} has recordings of several servers in {cassettes}: "
            f"{', '.join(found)}; choose one, such as --engine={found[0]}"
        )
    return place_of(cassettes / found[0]) if len(found) == 1 else None


def _place_below(cassettes: Path, name: str, what: str) -> Path:
    try:
        return place_of(path_below(cassettes, name, what))
    except (CassetteError, ConfigError) as error:
        raise TargetError(str(error)) from None


def with_contract(cassettes: Path) -> list[str]:
    """The names of the engines that have a recording of at least one check.

    Engines with packed recordings are only among them if all recordings are packed: those are for
    runs that name the engine.
    """
    checks = catalogue()
    folders = {path.parent.name for path in cassettes.glob("*/*.yaml") if path.stem in checks}
    return sorted(folders or packed_with_contract(cassettes))


def packed_with_contract(cassettes: Path) -> list[str]:
    """The names of the engines that have a packed recording of at least one check, sorted.

    Raises TargetError if a packed file cannot be read.
    """
    checks = catalogue()
    try:
        return [
            place.stem
            for place in sorted(cassettes.glob("*.zip"))
            if any(path.stem in checks for path in recordings_in(place))
        ]
    except CassetteError as error:
        raise TargetError(str(error)) from None


def _mode(config: EngineConfig, backend: type[Backend], url: str | None, folder: Path) -> Mode:
    known = facts(config.backend)
    if url is not None or known.instant:
        return Mode.LIVE
    if recordings_in(folder):
        return Mode.REPLAY
    if known.own_server or (known.one_address and _has_key(config, backend)):
        return Mode.LIVE
    if answers_by_default(backend):
        return Mode.LIVE
    raise EngineMissing(no_source(config.name, backend, folder))


def _default_of(backend: type[Backend]) -> str:
    return "" if backend.default_endpoint is None else "the default address"


def _has_key(config: EngineConfig, backend: type[Backend]) -> bool:
    return _names_a_key(config) or bool(backend.key_env and os.environ.get(backend.key_env))


def _names_a_key(config: EngineConfig) -> bool:
    return config.api_key is not None or config.api_key_env is not None


def _need_cassettes(config: EngineConfig, backend: type[Backend], folder: Path) -> None:
    if not recordings_in(folder):
        raise TargetError(no_cassettes(config.name, backend, folder))


def _only_replays(
    config: EngineConfig, backend: type[Backend], url: str | None, folder: Path
) -> bool:
    """Whether there are cassettes, and they are packed or there is no server to record from."""
    if not recordings_in(folder):
        return False
    if url is not None or backend.default_endpoint is not None:
        return is_packed(folder)
    startable = facts(config.backend).own_server and can_start(config.backend)
    return is_packed(folder) or not startable


def _need_writable(folder: Path) -> None:
    try:
        check_writable(folder)
    except CassetteError as error:
        raise TargetError(str(error)) from None


def _need_address(config: EngineConfig, backend: type[Backend], url: str | None) -> None:
    if url is None and backend.default_endpoint is None and not facts(config.backend).own_server:
        raise TargetError(no_address(config.name, backend))
    if url is None and not can_start(config.backend):
        raise NotInstalled(not_installed(config.name, config.backend))


def _own_key(config: EngineConfig, settings: Settings) -> dict[str, Any]:
    """LLMENGINE_API_KEY, if the run has its own URL; the key is sent to no other host."""
    usable = settings.url and not _names_a_key(config) and os.environ.get(KEY_VARIABLE)
    return {"api_key_env": KEY_VARIABLE} if usable else {}


def model_of(config: EngineConfig, settings: Settings) -> str:
    """The model to request from an engine; empty if the server is to be asked for it."""
    backend = facts(config.backend)
    from_variable = os.environ.get(backend.model_variable, "") if backend.model_variable else ""
    given = settings.model or config.model or from_variable or settings.fallback_model
    return given or backend.model


_PACKAGES = {
    "openai": "openai",
    "vllm_local": "vllm",
}  # our backends that need an extra, and the package that the extra installs
_SERVER_PACKAGES = {"embedded": "xllamacpp"}  # the same for the servers that engines start


def config_named(name: str, file: Path | None, cassettes: Path | None = None) -> EngineConfig:
    """The configuration for a name.

    It is the engine of that name in the file, else the first engine in the file with that backend,
    else the backend without further settings. A backend may also be named by its marker, such as
    ``ollama`` or ``vllm``. Else it is the server whose recordings are in the folder of that name.
    A backend without settings has an empty model, which is asked of the server later. Raises
    TargetError that lists the names if there is no such engine, or that says what is wrong with
    the file.
    """
    engines = _engines(file)
    if name in engines:
        return engines[name]
    backend = BACKEND_OF_MARKER.get(name, name)
    for config in engines.values():
        if config.backend == backend:
            return config
    if backend in backends():
        return EngineConfig.model_validate({"name": backend, "backend": backend, "model": ""})
    if cassettes is not None and (of_server := _backend_recorded(cassettes, name)):
        return EngineConfig.model_validate({"name": name, "backend": of_server, "model": ""})
    known = dict.fromkeys([*engines, *backends(), *BACKEND_OF_MARKER])
    near = get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    in_file = f"; {file} has {', '.join(engines)}" if file else "; no engines file is given"
    raise TargetError(
        f"unknown engine {name!r}: {meant}backends are {', '.join(backends())}{in_file}"
    )


def _backend_recorded(cassettes: Path, name: str) -> str:
    """The backend of a server that was recorded under its own name or address; "" for others."""
    try:
        files = recordings_in(place_of(path_below(cassettes, name, "the name of an engine")))
        found = files and ReplayCassette.load(files[0], RecordingConfig()).provenance.backend
    except (ConfigError, CassetteError):
        return ""
    return found or ""


def is_installed(backend: str) -> bool:
    """Whether the backend exists and the package that it needs is installed."""
    package = _PACKAGES.get(backend)
    return backend in backends() and (package is None or find_spec(package) is not None)


def can_start(backend: str) -> bool:
    """Whether the package with the server that a backend's engines start is installed."""
    package = _SERVER_PACKAGES.get(backend)
    return package is None or find_spec(package) is not None


def has_server(backend: str) -> bool:
    """Whether a backend's engines talk to a server, instead of running in this process."""
    loaded: type[Backend] = load_backend(backend)
    return not loaded.in_process


def _engines(file: Path | None) -> dict[str, EngineConfig]:
    if file is None:
        return {}
    try:
        return load_engines(file)
    except ConfigError as error:
        raise TargetError(str(error)) from error


COMMAND_LINE = "the command line"

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_SECONDS = 2.0  # a server on this machine answers quickly, or is too busy to be tested


def configured_url(config: EngineConfig, backend: type[Backend], settings: Settings) -> str | None:
    """The configured address, or None."""
    found = located(config, backend, settings)
    return found[0] if found is not None else None


def located(
    config: EngineConfig, backend: type[Backend], settings: Settings
) -> tuple[str, str] | None:
    """The configured address and where it was configured, or None.

    These are tried in order: the run's own URL, the engine's entry in the file, the backend's
    environment variable (such as OLLAMA_HOST), the project's default. So a setting for one engine
    comes before a setting for a whole backend.
    """
    variable = next((v for v in backend.endpoint_env if os.environ.get(v)), "")
    addresses = (
        (settings.url, COMMAND_LINE),
        (config.endpoint, "the engines file"),
        (os.environ.get(variable), variable),
        (settings.fallback_url, "the ini file"),
    )
    for url, source in addresses:
        if url:
            return _checked(url, backend.default_port), source
    return None


def answers_by_default(backend: type[Backend]) -> bool:
    """Whether a server answers at the backend's default address, and that is on this machine.

    The server is asked for its version, else for its models: neither loads a model.
    """
    if backend.default_endpoint is None:
        return False
    endpoint = normal_endpoint(backend.default_endpoint, default_port=backend.default_port)
    if urlsplit(endpoint).hostname not in _HERE:
        return False
    version = root_of(endpoint) + backend.version_path if backend.version_path else None
    try:
        with httpx.stream(
            "GET", version or f"{base_of(endpoint)}/models", timeout=_SECONDS, trust_env=False
        ) as reply:
            return reply.is_success
    except (httpx.HTTPError, AssertionError):  # respx refuses a request with an AssertionError
        return False


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Split an endpoint into the part that a proxy replaces, and the path and query that stay.

    The path stays because the dialect depends on it: with ``/v1`` Ollama speaks OpenAI's dialect,
    and ``/v1`` must not be added to other paths.
    """
    parts = urlsplit(endpoint)
    query = f"?{parts.query}" if parts.query else ""
    before = parts.path.removesuffix("/v1")
    if before != parts.path:
        return f"{parts.scheme}://{parts.netloc}{before}", f"/v1{query}"
    return f"{parts.scheme}://{parts.netloc}", f"{parts.path}{query}"


def _checked(url: str, port: int | None) -> str:
    try:
        normal = normal_endpoint(url, default_port=port)
    except ConfigError as error:
        raise TargetError(str(error)) from error
    parts = urlsplit(normal)
    if "@" in parts.netloc:
        raise TargetError(
            f"the address of {parts.hostname} holds a name or a password; take it out and put the "
            "key into the environment"
        )
    return normal


def in_container(mode: Mode, url: str | None, settings: Settings) -> bool:
    """Whether the server is to run in a container: in docker mode, or when an image is recorded."""
    if mode is Mode.DOCKER and settings.url is not None:
        raise TargetError(
            f"the mode docker starts a server of its own, but {settings.url} is given too; "
            "leave one of the two out"
        )
    return mode is Mode.DOCKER or (mode is Mode.RECORD and settings.image is not None and not url)


def container_for(config: EngineConfig, settings: Settings) -> ContainerSpec:
    """The container of an engine, with the run's settings applied."""
    return spec_of(
        config,
        image=settings.image,
        gpus=settings.gpus,
        startup_timeout=settings.startup_timeout,
    )


@contextmanager
def served(
    spec: ContainerSpec, owner: Owner | None, on_progress: OnProgress
) -> Iterator[ContainerServer]:
    """A server in a container; it ends with its owner's run, or with the block if there is none."""
    if owner is not None:
        yield serve(spec, owner, on_progress)
        return
    alone = Owner.here()
    try:
        yield serve(spec, alone, on_progress)
    finally:
        end_run(alone)
