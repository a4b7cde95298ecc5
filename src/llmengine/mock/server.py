"""The mock server, which listens on loopback in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

from llmengine.mock.batch_store import BatchSchedule
from llmengine.mock.behaviour import Behaviour
from llmengine.mock.clock import RealClock
from llmengine.mock.load import Load
from llmengine.mock.request_log import MAX_BYTES, MAX_CALLS, RequestLog
from llmengine.mock.script import Script
from llmengine.mock.service import Service
from llmengine.mock.stubs import RequestConditions, Stub
from llmengine.transport.mocks import add_started, remove_started
from llmengine.types.arguments import checked_call
from llmengine.types.errors import ConfigError, InvalidFieldError
from llmengine.types.hosts import AllowedClients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from starlette.types import ASGIApp

    from llmengine.mock.behaviour import ReceivedRequest
    from llmengine.mock.clock import MockClock
    from llmengine.mock.stubs import Contents


DEFAULT_CONTEXT = 8192
_BACKLOG = 2048


class MockServer:
    """The reference implementation of the contract, over real HTTP on loopback.

    With ``port`` 0 the server takes a free port. With an ``api_key`` every request must carry it as
    a bearer token. ``models`` are the names of more models beside ``model``. ``context_length`` is
    in tokens of the mock's own tokenizer. ``load`` makes the server busy or slow; ``slots`` alone
    is short for ``Load(slots=...)``. The server waits by ``clock``, which is real time unless it is
    a `ManualClock`. ``batches`` is how the batches of its Batch API go on. ``calls`` has at most
    ``max_calls`` requests with ``max_calls_bytes`` bytes of bodies, the newest ones. It accepts
    ``allowed_hosts`` as names of this machine and ``cors`` as origins of web pages, besides those
    of loopback (see
    `AllowedClients`). ``behaviour`` changes how the server works, and ``script`` sets its replies
    and faults. If the server or a hook failed, the end of the ``with`` block raises that error, so
    that a defect does not pass as an answer. Raises ConfigError if the address cannot be bound.
    """

    @checked_call("MockServer", InvalidFieldError)
    def __init__(  # noqa: PLR0913 - one server's settings
        self,
        *,
        behaviour: Behaviour | None = None,
        script: Script | None = None,
        api_key: str | None = None,
        model: str = "mock",
        models: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        context_length: int = DEFAULT_CONTEXT,
        slots: int | None = None,
        load: Load | None = None,
        clock: MockClock | None = None,
        batches: BatchSchedule | None = None,
        max_calls: int = MAX_CALLS,
        max_calls_bytes: int = MAX_BYTES,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
    ) -> None:
        if slots is not None and load is not None:
            raise InvalidFieldError("MockServer: give slots in the Load, and not beside it")
        self._service = Service(
            models=_model_names(model, models),
            key=api_key,
            context_length=context_length,
            behaviour=behaviour or Behaviour(),
            calls=RequestLog(max_calls, max_calls_bytes),
            clock=clock or RealClock(),
            batch_schedule=batches or BatchSchedule(),
        )
        self.play(script or Script())
        self.simulate(load or Load(slots=slots))
        self._address = (host, port)
        self._clients = AllowedClients.of(allowed_hosts, cors, listens_on=host)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop_lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None and self._service.crashes:
            raise self._service.crashes[0]

    @property
    def model(self) -> str:
        """The name of the model that the server serves; of several, the first one."""
        return self._service.model

    @property
    def root_url(self) -> str:
        """The server's address without a path."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The address of the OpenAI-compatible API."""
        return f"{self.root_url}/v1"

    @property
    def calls(self) -> RequestLog:
        """The requests so far, in the order in which they arrived.

        If there were more than ``max_calls``, or more than ``max_calls_bytes`` bytes of bodies, the
        oldest ones were dropped, and ``calls.dropped`` is their number.
        """
        return self._service.calls

    def play(self, script: Script) -> None:
        """Replace the script, also while the server is running."""
        if not isinstance(script, Script):
            raise InvalidFieldError(
                f"script is a {type(script).__name__}; give a Script, such as Script(replies=[...])"
            )
        self._service.expectations.play(script)

    @checked_call("when", InvalidFieldError)
    def when(  # noqa: PLR0913 - one condition each
        self,
        *,
        contains: Contents | None = None,
        system: Contents | None = None,
        json: Mapping[str, object] | None = None,
        model: str | None = None,
        tool: str | None = None,
        path: str | None = None,
        where: Callable[[ReceivedRequest], object] | None = None,
    ) -> Stub:
        """Choose requests by their content: ``server.when(contains="Hi").reply("Hello")``.

        A request must fit every condition that is given:

        - ``contains``: the last message or the prompt has this text, matches this compiled
          pattern, or does so for each of a list.
        - ``system``: the system prompt has this text, in the same ways.
        - ``json``: the body has these fields with these values. Objects in it may have more
          fields; lists are compared item by item.
        - ``model``: the request names this model.
        - ``tool``: the request offers a tool of this name.
        - ``path``: the path of the route, such as ``/v1/messages``.
        - ``where``: this function of the request returns a true value.

        The first `when` that matches and has a reply left answers, and then the script. If neither
        does, the request gets a 400 that says so, and `assert_as_scripted` fails.
        """
        stub = Stub(RequestConditions(contains, system, json, model, tool, path, where))
        self._service.expectations.add(stub)
        return stub

    def simulate(self, load: Load) -> None:
        """Behave from now on like a server under this load, also while the server is running."""
        if not isinstance(load, Load):
            raise InvalidFieldError(
                f"load is a {type(load).__name__}; give a Load, such as Load(slots=2)"
            )
        self._service.simulate(load)

    def schedule_batches(self, schedule: BatchSchedule) -> None:
        """Let batches that are created from now on go on in this way."""
        if not isinstance(schedule, BatchSchedule):
            raise InvalidFieldError(
                f"schedule is a {type(schedule).__name__}; give a BatchSchedule, such as "
                "BatchSchedule(seconds=60)"
            )
        self._service.batch_schedule = schedule

    def assert_as_scripted(self) -> None:
        """Raise AssertionError unless the requests were those that the test expected.

        It fails if a reply of the script was not asked for, if a request came after the last reply
        of the script, if a `when` was not asked for, or if a request had no reply.
        What is ``optional`` may be left. The fixture ``mock_server`` calls it after a test.
        """
        if problems := self._service.expectations.problems:
            lines = "\n".join(f"- {problem}" for problem in problems)
            raise AssertionError(f"the mock server was not used as scripted:\n{lines}")

    def start(self) -> None:
        """Start to listen, and return when the server can answer requests."""
        from llmengine.mock.app import build  # noqa: PLC0415 - starlette is heavy
        from llmengine.mock.listener import with_host_check  # noqa: PLC0415 - as above

        app = with_host_check(build(self._service), self._clients)
        listener = _listening_socket(*self._address)
        self._address = (self._address[0], listener.getsockname()[1])
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=_run, args=(app, listener, ready), name=f"mock {self.root_url}", daemon=True
        )
        self._thread.start()
        self._loop = ready.result()
        add_started(self.root_url)

    def wait(self) -> None:
        """Block until the server stops."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Close every connection and end the thread; does nothing if the server is not running."""
        with self._stop_lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                remove_started(self.root_url)
                loop.call_soon_threadsafe(loop.stop)
        self.wait()


def _model_names(model: str, models: Iterable[str]) -> tuple[str, ...]:
    if isinstance(models, str):
        raise InvalidFieldError(f"MockServer: models is {models!r}; give a list of names")
    return tuple(dict.fromkeys([model, *models]))


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # For another protocol asyncio leaves Nagle's algorithm on, which costs 40 ms per answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the mock server cannot listen on {host}:{port}: {error.strerror}; "
            "choose another port, or 0 for any free one"
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _run(app: ASGIApp, listener: socket.socket, ready: Future[asyncio.AbstractEventLoop]) -> None:
    """Run the server: set `ready` when it listens, and close it when the loop is stopped."""
    from llmengine.mock.listener import listen  # noqa: PLC0415 - uvicorn is heavy

    with asyncio.Runner() as runner:
        try:
            close = runner.run(listen(app, listener))
        except BaseException as error:
            ready.set_exception(error)
            raise
        ready.set_result(runner.get_loop())
        runner.get_loop().run_forever()
        runner.run(close())
