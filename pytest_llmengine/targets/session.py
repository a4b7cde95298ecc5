"""Sessions: an engine that answers, either live, through a recorder, or from recordings.

Before the first check, the server is asked for one token. So a wrong address, key or model gives
one clear error instead of a hundred failed checks.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from llmengine.dialects.errors import read_envelope
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CallError,
    LLMEngineError,
)
from llmengine.types.file_names import path_below
from llmengine.types.secrets import scrub
from pytest_llmengine.containers.docker import silent
from pytest_llmengine.contract.limits import Limits, RunBudget
from pytest_llmengine.contract.outcomes import Fail, NoVerdict
from pytest_llmengine.contract.profile import load_profile
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance, RecordServer, ReplayServer
from pytest_llmengine.targets.plan import (
    COMMAND_LINE,
    OWN_KEY,
    choose_model,
    in_this_process,
    make_plan,
    or_replay,
    record_command,
    recorded,
    served,
    split_endpoint,
)
from pytest_llmengine.targets.recognition import advice, recognised
from pytest_llmengine.targets.settings import AlreadyRecorded, Mode, TargetError, facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Fingerprint
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.recording import Tape
    from pytest_llmengine.targets.plan import Plan
    from pytest_llmengine.targets.settings import Settings


@dataclass(frozen=True, slots=True)
class Played:
    """A cassette that was replayed and closed, and its recorded requests that were not made."""

    folder: Path
    path: Path
    unused: tuple[str, ...]


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

    @property
    def name(self) -> str:
        """The engine's name, which is also the name of its cassette folder."""
        return self.engine.name

    @property
    def target(self) -> Target:
        """The target of the contract; raises TargetError for an engine without a server."""
        if self._target is None:
            raise TargetError(in_this_process(self.name, "the contract is about HTTP servers"))
        return self._target

    @property
    def mode(self) -> Mode:
        """Where the answers come from."""
        return self._plan.mode

    @property
    def key_variable(self) -> str:
        """The environment variable for the engine's key, whether it is set or not."""
        return self.engine.config.api_key_env or self.engine.backend.key_env or OWN_KEY

    def describe(self) -> str:
        """Where the answers come from, in one line that never holds a key."""
        if self.mode is Mode.REPLAY:
            return f"replayed from {self.provenance.describe()}"
        where = f"{_WORDS[self.mode]} {self.upstream}" if self.upstream else "in this process"
        source = self._plan.source
        if self.upstream and source and source != COMMAND_LINE:
            where = f"{where} ({source})"
        return f"{where}, {self.provenance.who()}"

    @property
    def advice(self) -> str:
        """Advice for a server that was recognised but is checked without a profile; "" if none."""
        if self.mode is Mode.REPLAY:
            return ""
        return advice(self.engine.backend.name, self.provenance.engine)

    def record_command(self, test: str = "", *, rewrite: bool = False) -> str:
        """The command that records this engine's answers to one test, or to all tests."""
        return record_command(self.name, type(self.engine.backend), test=test, rewrite=rewrite)

    @contextmanager
    def cassette(self, name: str) -> Iterator[Tape | None]:
        """Record to or replay from the engine's cassette of that name; None if the session is live.

        Raises AlreadyRecorded if there is a recording that must not be replaced, CassetteError if
        there is no recording to replay, and ConfigError for a name that leaves the folder.
        """
        if self._proxy is None:
            yield None
            return
        path = path_below(self._plan.folder, f"{name}.yaml", "the name of a cassette")
        if self.mode is Mode.RECORD and path.exists() and not self._plan.rewrite:
            raise AlreadyRecorded(f"{path} is there already; --rewrite records it anew")
        # Forget what a probe in an earlier test found, so that this cassette holds the probe too.
        self.engine.backend.enforcement.forget()
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

    `on_progress` is called with the progress of a container's start. Raises TargetError that says
    what to do if there is nothing to talk to.
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
    """A session without a server; no token is requested, because that may load a model."""
    engine = stack.enter_context(plan.config.engine)
    provenance = Provenance(
        facts(engine.backend.name).server, engine.fingerprint().version, engine.model
    )
    profile = load_profile(engine.backend.name)
    return Session(engine, None, provenance, profile, None, [], RunBudget(plan.limits), plan, None)


def _serve(plan: Plan, stack: ExitStack, image: str | None = None) -> Session:
    """A session with the real server, through a recorder in record mode."""
    server = stack.enter_context(plan.config.engine)
    provenance = replace(identify(server, _otherwise(plan)), image=image)
    known: dict[str, Any] = {"model": provenance.model}
    if plan.mode is not Mode.RECORD:
        engine = server if server.model == provenance.model else _opened(plan, known, stack)
        return _session(stack, plan, engine, provenance, server.base_url)
    root, path = split_endpoint(server.backend.endpoint)
    proxy = stack.enter_context(RecordServer(root, provenance))
    known |= {"endpoint": proxy.root_url + path} | _key_for_proxy(server)
    return _session(stack, plan, _opened(plan, known, stack), provenance, server.base_url, proxy)


def _otherwise(plan: Plan) -> str:
    return or_replay(plan.folder) if plan.mode is Mode.LIVE and recorded(plan.folder) else ""


def _key_for_proxy(server: Engine) -> dict[str, Any]:
    """Give the proxy the key that an environment variable holds for the server's address."""
    if server.api_key is None or server.config.resolve_key() is not None:
        return {}
    return {"api_key": SecretStr(server.api_key)}


def _replay(plan: Plan, stack: ExitStack) -> Session:
    """A session with a replayer; the first cassette of the folder gives the provenance."""
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
    """A fake key if the recording was made with a key; rules about keys are only checked then."""
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
        query=engine.backend.address.query,
    )
    stack.enter_context(target)
    profile = load_profile(engine.backend.name)
    budget = RunBudget(plan.limits)
    return Session(engine, target, provenance, profile, upstream, [], budget, plan, proxy)


_SECONDS = 20.0
_MAX_SHOWN = 200
_NO_KEY = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


def identify(engine: Engine, otherwise: str = "") -> Provenance:
    """What the server says about itself, after it has answered a chat request of one token.

    An engine without a model gets the only model that the server lists. Raises TargetError if
    nothing answers (then ``otherwise`` is further advice), if the key is refused, or if the server
    does not have the model.
    """
    try:
        found = engine.fingerprint()
        if not found.model:
            raise TargetError(_needs_model(engine, found))
        reply = _try(engine, found)
    except AuthenticationError as error:
        raise TargetError(_key_is_refused(engine, error.status, error.body or "")) from error
    except (APIConnectionError, APITimeoutError, NoVerdict) as error:
        raise TargetError(
            f"engine {engine.name!r}: nothing answers at {engine.base_url} "
            f"({error or type(error).__name__}); start the server, or correct the address"
            f"{otherwise}"
        ) from error
    except CallError as error:
        raise TargetError(f"engine {engine.name!r}: {engine.base_url}: {error}") from error
    server = facts(engine.backend.name).server
    if (
        server == engine.backend.name and reply is not None
    ):  # a generic backend: any program may answer
        server = recognised(engine, found, reply) or server
    auth = "bearer" if engine.api_key else None
    return Provenance(server, found.version, found.model, found.model_digest, auth)


def _needs_model(engine: Engine, found: Fingerprint) -> str:
    names = f"it has {', '.join(found.models)}" if found.models else "the server lists none"
    return f"engine {engine.name!r} has no model: {choose_model(type(engine.backend))}; {names}"


def _try(engine: Engine, found: Fingerprint) -> Reply | None:
    """The answer to a chat request of one token; None if the answer broke off.

    The checks judge everything else that may be wrong with the answer.

    The list of models would not be enough: it may be open although the chat needs a key, and a
    server may have models that it does not list, such as aliases.
    """
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": found.model, "messages": messages, "max_tokens": 1}
    with Target(
        engine.base_url,
        str(found.model),
        limits=Limits(answer=_SECONDS),
        query=engine.backend.address.query,
    ) as target:
        try:
            reply = target.post("/chat/completions", body, headers=engine.backend.address.headers)
        except Fail:
            return None  # the answer broke off or did not end
    if reply.status in _NO_KEY:
        raise TargetError(_key_is_refused(engine, reply.status, reply.text))
    if not httpx.codes.is_client_error(reply.status):
        return reply
    if found.models is not None and found.model not in found.models:
        names = ", ".join(found.models) or "none at all"
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no model {found.model!r} "
            f"({_said(reply.status, reply.text)}); it has {names}; "
            f"{choose_model(type(engine.backend))}{_pull(engine, found)}"
        )
    if found.models is None and reply.status == httpx.codes.NOT_FOUND:
        raise TargetError(
            f"engine {engine.name!r}: {engine.base_url} has no /chat/completions (404); "
            "the address of an OpenAI-style API usually ends in /v1"
        )
    return reply


def _pull(engine: Engine, found: Fingerprint) -> str:
    command = facts(engine.backend.name).get_model
    return f", or get it by `{command} {found.model}`" if command else ""


def _key_is_refused(engine: Engine, status: int | None, body: str) -> str:
    what = "does not accept the key" if engine.api_key else "asks for a key"
    words = f"{what} ({_said(status, body)}); {_key_advice(engine)}"
    return f"engine {engine.name!r}: {engine.base_url} {words}"


def _key_advice(engine: Engine) -> str:
    own = "LLMENGINE_API_KEY (with --engine-url), or api_key_env in the engines file"
    variable = engine.backend.key_env
    if variable is None:
        return f"set {own}"
    if engine.api_key is None and os.environ.get(variable):
        beside = engine.backend.endpoint_env[0]
        return f"{variable} goes to the address in {beside}: set that to this one, or set {own}"
    return f"set {variable} or {own}"


def _said(status: int | None, body: str) -> str:
    """The status and the server's error message, or the start of the body if it has no message."""
    words = " ".join((read_envelope(body.encode()).message or body).split())
    return scrub(f"{status} {words[:_MAX_SHOWN]}".strip())
