"""The mock server: a deterministic LLM server on loopback, the reference for the contract."""

import warnings
from typing import TYPE_CHECKING

from llmengine.mock.batch_store import BatchSchedule
from llmengine.mock.behaviour import Behaviour, RawReply, ReceivedRequest
from llmengine.mock.clock import ManualClock
from llmengine.mock.load import Chaos, Load
from llmengine.mock.script import Fault, MockReply, Script
from llmengine.mock.server import MockServer
from llmengine.mock.stubs import Stub

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest as Call  # noqa: F401 - the old name

__all__ = [
    "BatchSchedule",
    "Behaviour",
    "Chaos",
    "Fault",
    "Load",
    "ManualClock",
    "MockReply",
    "MockServer",
    "RawReply",
    "ReceivedRequest",
    "Script",
    "Stub",
]


def __getattr__(name: str) -> object:
    if name != "Call":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "llmengine.mock.Call is now ReceivedRequest; the old name will be removed",
        DeprecationWarning,
        stacklevel=2,
    )
    return ReceivedRequest
