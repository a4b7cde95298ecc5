"""Sessions: an engine that answers, either live, through a recorder, or from recordings.

Before the first check, the server is asked for one token. So a wrong address, key or model gives
one clear error instead of a hundred failed checks.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from llmengine.transport.mocks import add_started
from llmengine.types.errors import LLMEngineError
from llmengine.types.file_names import path_below
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.contract.limits import RunBudget
from pytest_llmengine.contract.profile import load_profile
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import (
    Provenance,
    RecordingConfig,
    RecordServer,
    ReplayCassette,
    ReplayServer,
)
from pytest_llmengine.recording.packed import is_packed, recordings_in
from pytest_llmengine.recording.verification import VerifyServer
from pytest_llmengine.targets.advice import or_replay, record_command, without_server
from pytest_llmengine.targets.plan import (
    COMMAND_LINE,
    KEY_VARIABLE,
    make_plan,
    served,
    split_endpoint,
)
from pytest_llmengine.targets.recognition import identify, profile_advice
from pytest_llmengine.targets.settings import AlreadyRecorded, Mode, TargetError, facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.recording import Cassette
    from pytest_llmengine.recording.comparison import Comparison
    from pytest_llmengine.targets.plan import Plan
    from pytest_llmengine.targets.recognition import Identity
    from pytest_llmengine.targets.settings import Settings


@dataclass(frozen=True, slots=True)
class Played:
    """A cassette that was replayed and closed, and its recorded requests that were not made.

    ``comparisons`` are those with the live server, if the cassette was verified.
    """

    folder: Path
    path: Path
    unused: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One open engine: our client and the contract's target, both at the same address.

    An engine that runs in this process has neither an address nor a target. ``provenance`` says
    which server answers, or answered during the recording. ``upstream`` is the real server's
    address, None if there is none. ``played`` lists the cassettes that were replayed and closed.
    ``budget`` is what is left for the checks of the contract in this run.
    """

    engine: Engine
    _target: Target | None
    provenance: Provenance
    profile: Profile
    upstream: str | None
    played: list[Played]
    budget: RunBudget
    _plan: Plan
    _proxy: RecordServer | ReplayServer | None
    _problem: str = ""

    @property
    def name(self) -> str:
        """The engine's name, which is also the name of its cassette folder."""
        return self.engine.name

    @property
    def server_name(self) -> str:
        """What people call the server: the given name, its program, or its host and port."""
        if given := self._plan.server_name or self.provenance.name:
            return given
        program = self.provenance.engine
        if program and program != self.engine.backend.name:
            return program
        return urlsplit(self.upstream or "").netloc or program or self.name

    @property
    def target(self) -> Target:
        """The target of the contract; raises TargetError for an engine without a server."""
        if self._target is None:
            raise TargetError(
                without_server(self.engine.config, "the contract is about HTTP servers")
            )
        return self._target

    @property
    def mode(self) -> Mode:
        """Where the answers come from."""
        return self._plan.mode

    @property
    def packed(self) -> Path | None:
        """The packed file that is replayed; None if the answers come from elsewhere."""
        folder = self._plan.folder
        return folder if self.mode.plays and is_packed(folder) else None

    @property
    def key_variable(self) -> str:
        """The environment variable for the engine's key, whether it is set or not."""
        return self.engine.config.api_key_env or self.engine.backend.key_env or KEY_VARIABLE

    def describe(self) -> str:
        """Where the answers come from, in one line that never holds a key."""
        if self.mode is Mode.REPLAY:
            return f"replayed from {self.provenance.describe()}"
        doing = _RECORDING_MISSING if self._plan.plays_first else _MODE_TEXTS[self.mode]
        where = f"{doing} {self.upstream}" if self.upstream else "in this process"
        source = self._plan.source
        if self.upstream and source and source != COMMAND_LINE:
            where = f"{where} ({source})"
        problem = f"; it does not describe itself fully ({self._problem})" if self._problem else ""
        return f"{where}, {self.provenance.who()}{problem}"

    @property
    def advice(self) -> str:
        """Advice for a server that was recognised but is checked without a profile; "" if none."""
        if self.mode is Mode.REPLAY:
            return ""
        return profile_advice(self.engine.backend.name, self.provenance.engine)

    def replays(self, name: str, recording: RecordingConfig) -> bool:
        """Whether requests are answered from the cassette of that name."""
        played = (recording.record_mode or self._plan.record_mode) not in {None, "all"}
        return self.mode.plays or (
            self.mode is Mode.RECORD and played and self._path(name).exists()
        )

    def _path(self, name: str) -> Path:
        return path_below(self._plan.folder, f"{name}.yaml", "the name of a cassette")

    def record_command(self, test: str = "", *, rewrite: bool = False) -> str:
        """The command that records this engine's answers to one test, or to all tests."""
        return record_command(self.name, type(self.engine.backend), test=test, rewrite=rewrite)

    @contextmanager
    def cassette(
        self, name: str, recording: RecordingConfig | None = None
    ) -> Iterator[Cassette | None]:
        """Record to or replay from the engine's cassette of that name; None if the session is live.

        `recording` replaces the run's configuration for this cassette.

        Raises AlreadyRecorded if there is a recording that must not be replaced, CassetteError if
        there is no recording to replay, ConfigError for a name that leaves the folder, and
        TargetError if the server has to be recorded and does not answer.
        """
        if self._proxy is None:
            yield None
            return
        path, config = self._path(name), recording or self._plan.recording
        if self.mode is Mode.RECORD:
            record_mode = config.record_mode or self._plan.record_mode
            if record_mode is None and path.exists():
                raise AlreadyRecorded(f"{path} already exists; --rewrite records it again")
            config = replace(config, record_mode=record_mode)
        # Forget what a probe in an earlier test found, so that this cassette holds the probe too.
        self.engine.close()
        with self._proxy.cassette(path, config) as cassette:
            yield cassette
        if self.mode.plays:
            taken = self._proxy.take_comparisons() if isinstance(self._proxy, VerifyServer) else ()
            unused = tuple(cassette.unused)
            self.played.append(Played(self._plan.folder, path, unused, tuple(taken)))


_PLACEHOLDER_KEY = "stands-in-for-the-recorded-key"
_RECORDING_MISSING = "recording what is missing from"
_MODE_TEXTS = {
    Mode.LIVE: "live at",
    Mode.RECORD: "recording from",
    Mode.DOCKER: "live at",
    Mode.VERIFY: "replayed, and verified at",
}


@contextmanager
def open_session(
    name: str, settings: Settings, on_progress: OnProgress = silent
) -> Iterator[Session]:
    """Open an engine by its name, for as long as the block lasts.

    `on_progress` is called with the progress of a container's start. Raises TargetError that says
    what to do if the engine cannot be opened.
    """
    with ExitStack() as stack:
        try:
            plan = replace(
                make_plan(name, settings),
                server_name=settings.for_engine(name).server_name or "",
                limits=settings.limits,
                recording=settings.recording,
                fail_on=settings.fail_on,
            )
            session = _open(plan, settings, on_progress, stack)
        except TargetError:
            raise
        except LLMEngineError as error:
            raise TargetError(str(error)) from error
        yield session


def _open(plan: Plan, settings: Settings, on_progress: OnProgress, stack: ExitStack) -> Session:
    if plan.mode is Mode.REPLAY:
        return _open_replay(plan, stack)
    if plan.in_process:
        return _open_in_process(plan, stack)
    if plan.container is None:
        return _open_live(plan, stack)
    container = stack.enter_context(served(plan.container, settings.owner, on_progress))
    add_started(container.root_url)
    _, path = split_endpoint(plan.config.endpoint or container.root_url)
    change = {"endpoint": container.root_url + path}
    plan = replace(plan, config=plan.config.model_copy(update=change))
    return _open_live(plan, stack, image=container.image)


def _open_in_process(plan: Plan, stack: ExitStack) -> Session:
    """A session without a server; no token is requested, because that may load a model."""
    engine = stack.enter_context(plan.config.engine)
    provenance = Provenance(
        facts(engine.backend.name).server, engine.fingerprint().version, engine.model
    )
    profile = load_profile(engine.name, engine.backend.name)
    return Session(engine, None, provenance, profile, None, [], RunBudget(plan.limits), plan, None)


def _open_live(plan: Plan, stack: ExitStack, image: str | None = None) -> Session:
    """A session with the real server."""
    server = stack.enter_context(plan.config.engine)
    if plan.mode is Mode.RECORD:
        return _open_recorder(plan, stack, server, image)
    if plan.mode is Mode.VERIFY:
        return _open_verifier(plan, stack, server)
    identity = identify(server, _advice_if_unreachable(plan))
    provenance = replace(identity.provenance, image=image)
    known = {"model": provenance.model}
    engine = server if server.model == provenance.model else _opened_engine(plan, known, stack)
    session = _make_session(stack, plan, engine, provenance, server.base_url)
    return replace(session, _problem=identity.problem)


def _open_recorder(plan: Plan, stack: ExitStack, server: Engine, image: str | None) -> Session:
    """A session with the real server, through a recorder.

    If there are cassettes that are played first, the server is not asked who it is before one has
    to be recorded.
    """

    @cache
    def identity() -> Identity:
        return identify(server)

    def found() -> Provenance:
        return _for_cassettes(plan, replace(identity().provenance, image=image))

    earlier = _first_provenance(plan) if plan.plays_first else None
    root, path = split_endpoint(server.backend.endpoint)
    proxy = stack.enter_context(RecordServer(root, found))
    provenance = earlier or replace(identity().provenance, image=image)
    known: dict[str, Any] = {"endpoint": proxy.root_url + path} | _key_for_proxy(server)
    known["model"] = (earlier and plan.config.model) or provenance.model or ""
    engine = _opened_engine(plan, known, stack)
    session = _make_session(stack, plan, engine, provenance, server.base_url, proxy)
    return session if earlier else replace(session, _problem=identity().problem)


def _open_verifier(plan: Plan, stack: ExitStack, server: Engine) -> Session:
    """A session with recorded answers, which are compared with those of the real server.

    Clients ask for the recorded model, because requests are matched by it.
    """
    identity, recorded = identify(server), _first_provenance(plan)
    root, path = split_endpoint(server.backend.endpoint)
    model = identity.provenance.model
    proxy = stack.enter_context(VerifyServer(root, model=model, fail_on=plan.fail_on))
    known: dict[str, Any] = {"endpoint": proxy.root_url + path} | _key_for_proxy(server)
    known["model"] = (recorded and recorded.model) or model
    engine = _opened_engine(plan, known, stack)
    session = _make_session(stack, plan, engine, identity.provenance, server.base_url, proxy)
    return replace(session, _problem=identity.problem)


def _first_provenance(plan: Plan) -> Provenance | None:
    """Where the first cassette of the folder comes from; None if there are no cassettes."""
    files = recordings_in(plan.folder)
    return ReplayCassette.load(files[0], RecordingConfig()).provenance if files else None


def _for_cassettes(plan: Plan, provenance: Provenance) -> Provenance:
    """The provenance with what is needed to replay a folder without the name of an engine."""
    if plan.folder.name == plan.config.name:
        return provenance
    return replace(provenance, name=plan.server_name or None, backend=plan.config.backend)


def _advice_if_unreachable(plan: Plan) -> str:
    return or_replay(plan.folder) if plan.mode is Mode.LIVE and recordings_in(plan.folder) else ""


def _key_for_proxy(server: Engine) -> dict[str, Any]:
    """Give the proxy the key that an environment variable holds for the server's address."""
    if server.api_key is None or server.config.resolve_key() is not None:
        return {}
    return {"api_key": SecretStr(server.api_key)}


def _open_replay(plan: Plan, stack: ExitStack) -> Session:
    """A session with a replayer; the first cassette of the folder gives the provenance."""
    proxy = stack.enter_context(ReplayServer())
    provenance = _first_provenance(plan) or Provenance()
    _, path = split_endpoint(plan.config.endpoint or proxy.root_url)
    known = {
        "model": plan.config.model or provenance.model or "",
        "endpoint": proxy.root_url + path,
    } | _placeholder_key(provenance)
    return _make_session(stack, plan, _opened_engine(plan, known, stack), provenance, None, proxy)


def _placeholder_key(provenance: Provenance) -> dict[str, Any]:
    """A placeholder if the recording was made with a key, so that rules about keys are checked."""
    return {"api_key": SecretStr(_PLACEHOLDER_KEY)} if provenance.auth else {}


def _opened_engine(plan: Plan, known: dict[str, Any], stack: ExitStack) -> Engine:
    return stack.enter_context(plan.config.model_copy(update=known).engine)


def _make_session(  # noqa: PLR0913, PLR0917 - the parts of one session
    stack: ExitStack,
    plan: Plan,
    engine: Engine,
    provenance: Provenance,
    upstream: str | None,
    proxy: RecordServer | ReplayServer | None = None,
) -> Session:
    target = Target(
        engine.base_url,
        engine.model,
        engine.api_key,
        clock=not plan.mode.plays and not plan.plays_first,
        direct=proxy is None,
        limits=plan.limits,
        query=engine.backend.address.query,
        headers=engine.backend.address.own_headers,
        sleep=_no_pause if plan.mode.plays else time.sleep,
    )
    stack.enter_context(target)
    profile = load_profile(engine.name, engine.backend.name)
    budget = RunBudget(plan.limits)
    return Session(engine, target, provenance, profile, upstream, [], budget, plan, proxy)


def _no_pause(seconds: float) -> None:
    """Do not wait: a replayed server does not limit the rate."""
