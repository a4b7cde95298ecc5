"""Mutants of err.fuzz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import crashes_on, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest

TRACE = 'Traceback (most recent call last):\n  File "/srv/app.py", line 7, in chat'


def _crashing(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 500 if reply.status == 400 else reply.status
    return reply


mutant("err.no_5xx_on_client_error", Behaviour("crashes", wire=_crashing))
mutant("err.no_internal_leak", Behaviour("a trace", error=put(TRACE, "error", "message")))
mutant("err.no_internal_leak", Behaviour("a novel", error=put("a" * 20_000, "error", "message")))


def _closes(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if b'"top_p"' in call.body:
        reply.chunks, reply.cut = [], True
    return reply


def _fails_on_nul(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 500 if "\0" in call.path else reply.status
    return reply


mutant("err.generated.chat", Behaviour("crashes on audio", wire=crashes_on(b'"audio"')))
mutant("err.generated.chat", Behaviour("closes", wire=_closes))
mutant("err.generated.completions", Behaviour("crashes on suffix", wire=crashes_on(b'"suffix"')))
mutant("err.generated.responses", Behaviour("crashes on prompt", wire=crashes_on(b'"prompt"')))
mutant(
    "err.generated.embeddings", Behaviour("crashes on dimensions", wire=crashes_on(b'"dimensions"'))
)
mutant("err.generated.paths", Behaviour("crashes on NUL", wire=_fails_on_nul))
