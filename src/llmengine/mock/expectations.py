"""The replies and faults that a test has set, and what was asked for or left against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmengine.mock.script import Fault, MockReply, Script, as_reply, check_fault, shown
from llmengine.mock.wire import ApiError, fault_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import ReceivedRequest
    from llmengine.mock.script import AnyReply
    from llmengine.mock.stubs import Stub

_MOST_LISTED = 20
_END = object()


class _ScriptPlayer:
    """A script, and how many of its replies have been used."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._replies: Iterator[AnyReply] = iter(script.replies)
        self._faults: Iterator[Fault | None] = iter(script.faults)
        self._used = 0

    def next_reply(self) -> object:
        """The next reply, or `_END`."""
        reply = next(self._replies, _END)
        self._used += reply is not _END
        return reply

    def next_fault(self) -> Fault | None:
        """The fault for this request, or None."""
        fault = next(self._faults, None)
        check_fault(fault)
        return fault

    @property
    def fails_when_over(self) -> bool:
        """Whether a request after the last reply is a problem."""
        return self._used > 0 and not self._script.optional

    @property
    def problems(self) -> list[str]:
        """The replies of a list that were not asked for, as one line."""
        given = self._script.replies
        # How many items an iterator has left is not known, and it may be endless.
        if self._script.optional or not isinstance(given, Sequence) or self._used == len(given):
            return []
        left = len(given) - self._used
        next_one = shown(given[self._used])
        return [
            f"Script: {left} of {len(given)} replies were not asked for, the next is {next_one}"
        ]


class Expectations:
    """Finds the reply to each request: by its content, or else the next of the script."""

    def __init__(self) -> None:
        self._player = _ScriptPlayer(Script())
        self._stubs: list[Stub] = []
        self._unexpected: list[str] = []
        self._more_unexpected = 0
        self.fault: Fault | None = None

    def play(self, script: Script) -> None:
        """Use this script from now on; replies that the one before has left stay a problem."""
        self._unexpected += self._player.problems
        self._player = _ScriptPlayer(script)

    def add(self, stub: Stub) -> None:
        """Use this stub from now on, after those that were added before."""
        self._stubs.append(stub)

    def next_fault(self) -> Fault | None:
        """The script's fault for the next request, or None."""
        self.fault = None
        return self._player.next_fault()

    def reply_to(self, request: ReceivedRequest) -> MockReply | None:
        """The reply to a request; None means the mock's own answer.

        ``fault`` is set if the reply has one. Raises ApiError for a fault with a status,
        and for a request that no stub expects although there are stubs.
        """
        given = self._given_for(request)
        if callable(given):
            given = given(request)
        reply = None if isinstance(given, Fault) else as_reply(given)
        fault = reply.fault if reply else None
        if isinstance(given, Fault):
            fault = given
        if fault is not None and fault.status is not None:
            raise fault_error(fault.status, fault.retry_after)
        self.fault = fault or self.fault
        return reply

    def embedding_for(self, request: ReceivedRequest) -> Sequence[float] | None:
        """The vector for a text; None means the mock's own."""
        stub = next((s for s in self._matching(request, embeddings=True) if not s.is_used_up), None)
        reply = stub.next_reply() if stub else None
        return reply.embedding if isinstance(reply, MockReply) else None

    def _matching(self, request: ReceivedRequest, *, embeddings: bool) -> list[Stub]:
        stubs = (stub for stub in self._stubs if stub.is_for_embeddings is embeddings)
        return [stub for stub in stubs if stub.matches(request)]

    def _given_for(self, request: ReceivedRequest) -> object:
        matching = self._matching(request, embeddings=False)
        if (stub := next((s for s in matching if not s.is_used_up), None)) is not None:
            return stub.next_reply()
        given = self._player.next_reply()
        if given is not _END:
            return given
        what = f"{request.method} {request.path} {shown(request.prompt)}"
        if all(stub.optional or stub.is_for_embeddings for stub in self._stubs):
            if self._player.fails_when_over:
                self._note(f"{what}: came after the last reply of the script")
            return None
        reason = f"every reply of {matching[0]} was used" if matching else "no when(...) matches it"
        self._note(f"{what}: {reason}")
        raise ApiError(f"The mock has no reply to this request: {reason}.", code="no_reply")

    def _note(self, problem: str) -> None:
        if len(self._unexpected) < _MOST_LISTED:
            self._unexpected.append(problem)
        else:
            self._more_unexpected += 1

    @property
    def problems(self) -> list[str]:
        """Each way in which the requests differed from what was expected, as one line."""
        more = [f"and {n} more requests"] if (n := self._more_unexpected) else []
        stubs = [problem for stub in self._stubs if (problem := stub.problem)]
        return [*self._unexpected, *more, *self._player.problems, *stubs]
