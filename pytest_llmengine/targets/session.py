"""An engine that can be talked to: live, through a recorder, or from recordings."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llmengine.structured import enforcement
from llmengine.types.errors import LLMEngineError
from llmengine.types.file_names import path_below
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.contract.limits import RunBudget
from pytest_llmengine.contract.profile import load_profile
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance, RecordServer, ReplayServer
from pytest_llmengine.targets.addresses import COMMAND_LINE, split_endpoint
from pytest_llmengine.targets.backends import facts
from pytest_llmengine.targets.docker import served
from pytest_llmengine.targets.errors import AlreadyRecorded, TargetError
from pytest_llmengine.targets.plan import OWN_KEY, make_plan, recorded
from pytest_llmengine.targets.recognition import advice
from pytest_llmengine.targets.server import identify
from pytest_llmengine.targets.settings import Mode
from pytest_llmengine.targets.ways import in_this_process, or_replay, record_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.recording import Tape
    from pytest_llmengine.targets.plan import Plan
    from pytest_llmengine.targets.settings import Settings


@dataclass(frozen=True, slots=True)
class Played:
    """A cassette that a replay has closed, and the recorded requests that were not made."""

    folder: Path
    path: Path
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """One engine, open: our client and the contract's target, both at one address.

    An engine that runs in this process has no address, and no target. ``provenance`` says which
    server answers, or answered when it was recorded. ``upstream`` is the real server's address,
    None where there is none. ``played`` grows by every cassette that a replay has closed.
    ``budget`` is what is left of the run of the contract's checks.
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

    @property
    def name(self) -> str:
        """The engine's name, which is also that of its folder of cassettes."""
        return self.engine.name

    @property
    def target(self) -> Target:
        """What the contract talks to; raises TargetError for an engine without a server."""
        if self._target is None:
            raise TargetError(in_this_process(self.name, "the contract is about HTTP servers"))
        return self._target

    @property
    def mode(self) -> Mode:
        """Where the answers come from."""
        return self._plan.mode

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the engine's key, or would."""
        return self.engine.config.api_key_env or self.engine.key_env or OWN_KEY

    def describe(self) -> str:
        """Where the answers come from, in one line and without a key."""
        if self.mode is Mode.REPLAY:
            return f"replayed from {self.provenance.describe()}"
        where = f"{_WORDS[self.mode]} {self.upstream}" if self.upstream else "in this process"
        source = self._plan.source
        if self.upstream and source and source != COMMAND_LINE:
            where = f"{where} ({source})"
        return f"{where}, {self.provenance.who()}"

    @property
    def advice(self) -> str:
        """What to do about a server that was recognised and has no profile here; "" if nothing."""
        if self.mode is Mode.REPLAY:
            return ""
        return advice(self.engine.backend, self.provenance.engine)

    def record_command(self, test: str = "", *, rewrite: bool = False) -> str:
        """The command that records this engine's answers to a test, or to all."""
        return record_command(self.name, type(self.engine), test=test, rewrite=rewrite)

    @contextmanager
    def cassette(self, name: str) -> Iterator[Tape | None]:
        """Record to, or replay from, the engine's cassette of that name; None where it is live.

        Raises AlreadyRecorded where there is a recording that is not to be replaced, CassetteError
        where there is none to be replayed, and ConfigError for a name that leaves the folder.
        """
        if self._proxy is None:
            yield None
            return
        path = path_below(self._plan.folder, f"{name}.yaml", "the name of a cassette")
        if self.mode is Mode.RECORD and path.exists() and not self._plan.rewrite:
            raise AlreadyRecorded(f"{path} is there already; --rewrite records it anew")
        # What a probe found out in an earlier test would be missing from this one's cassette.
        enforcement.forget()
        with self._proxy.cassette(path) as tape:
            yield tape
        if self.mode is Mode.REPLAY:
            self.played.append(Played(self._plan.folder, path, tuple(tape.unused)))


_NO_ONES_KEY = "stands-in-for-the-recorded-key"
_WORDS = {Mode.LIVE: "live at", Mode.RECORD: "recording from", Mode.DOCKER: "live at"}


@contextmanager
def open_session(
    name: str, settings: Settings, on_progress: OnProgress = silent
) -> Iterator[Session]:
    """Open an engine by its name, for as long as the block lasts.

    `on_progress` hears how the start of a container goes. Raises TargetError, in words that say
    what to do, if there is nothing to talk to.
    """
    with ExitStack() as stack:
        try:
            plan = replace(make_plan(name, settings), limits=settings.limits)
            session = _opened_by(plan, settings, on_progress, stack)
        except TargetError:
            raise
        except LLMEngineError as error:
            raise TargetError(str(error)) from error
        yield session


def _opened_by(
    plan: Plan, settings: Settings, on_progress: OnProgress, stack: ExitStack
) -> Session:
    if plan.mode is Mode.REPLAY:
        return _replay(plan, stack)
    if plan.in_process:
        return _run_here(plan, stack)
    if plan.container is None:
        return _serve(plan, stack)
    container = stack.enter_context(served(plan.container, settings.owner, on_progress))
    _, path = split_endpoint(plan.config.endpoint or container.root_url)
    change = {"endpoint": container.root_url + path}
    plan = replace(plan, config=plan.config.model_copy(update=change))
    return _serve(plan, stack, image=container.image)


def _run_here(plan: Plan, stack: ExitStack) -> Session:
    """An engine without a server; it is not asked for a token, since that may load a model."""
    engine = stack.enter_context(plan.config.engine)
    provenance = Provenance(
        facts(engine.backend).server, engine.fingerprint().version, engine.model
    )
    profile = load_profile(engine.backend)
    return Session(engine, None, provenance, profile, None, [], RunBudget(plan.limits), plan, None)


def _serve(plan: Plan, stack: ExitStack, image: str | None = None) -> Session:
    """Aim at the real server, with a recorder between if one is wanted."""
    server = stack.enter_context(plan.config.engine)
    provenance = replace(identify(server, _otherwise(plan)), image=image)
    known: dict[str, Any] = {"model": provenance.model}
    if plan.mode is not Mode.RECORD:
        engine = server if server.model == provenance.model else _opened(plan, known, stack)
        return _session(stack, plan, engine, provenance, server.base_url)
    root, path = split_endpoint(server.endpoint)
    proxy = stack.enter_context(RecordServer(root, provenance))
    known |= {"endpoint": proxy.root_url + path} | _key_for_proxy(server)
    return _session(stack, plan, _opened(plan, known, stack), provenance, server.base_url, proxy)


def _otherwise(plan: Plan) -> str:
    return or_replay(plan.folder) if plan.mode is Mode.LIVE and recorded(plan.folder) else ""


def _key_for_proxy(server: Engine) -> dict[str, Any]:
    """A key that variables hold for the server's address goes to the proxy before it."""
    if server.api_key is None or server.config.resolve_key() is not None:
        return {}
    return {"api_key": SecretStr(server.api_key)}


def _replay(plan: Plan, stack: ExitStack) -> Session:
    """Aim at a replayer; the first cassette speaks for the folder."""
    proxy = stack.enter_context(ReplayServer())
    with proxy.cassette(recorded(plan.folder)[0]) as tape:
        provenance = tape.provenance
    _, path = split_endpoint(plan.config.endpoint or proxy.root_url)
    known = {
        "model": plan.config.model or provenance.model or "",
        "endpoint": proxy.root_url + path,
    } | _stand_in(provenance)
    return _session(stack, plan, _opened(plan, known, stack), provenance, None, proxy)


def _stand_in(provenance: Provenance) -> dict[str, Any]:
    """A key where one was recorded with: rules about keys are looked at only if there is one."""
    return {"api_key": SecretStr(_NO_ONES_KEY)} if provenance.auth else {}


def _opened(plan: Plan, known: dict[str, Any], stack: ExitStack) -> Engine:
    return stack.enter_context(plan.config.model_copy(update=known).engine)


def _session(  # noqa: PLR0913, PLR0917 - the parts of one session
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
        clock=plan.mode is not Mode.REPLAY,
        direct=proxy is None,
        limits=plan.limits,
        query=engine.query,
    )
    stack.enter_context(target)
    profile = load_profile(engine.backend)
    budget = RunBudget(plan.limits)
    return Session(engine, target, provenance, profile, upstream, [], budget, plan, proxy)
