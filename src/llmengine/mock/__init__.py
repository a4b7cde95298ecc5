"""The reference implementation of the contract: a deterministic LLM server on loopback."""

from llmengine.mock.behaviour import Behaviour, Call, Fault, RawReply, Script
from llmengine.mock.server import MockServer

__all__ = ["Behaviour", "Call", "Fault", "MockServer", "RawReply", "Script"]
