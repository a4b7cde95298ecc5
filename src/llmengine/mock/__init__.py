"""The mock server: a deterministic LLM server on loopback, the reference for the contract."""

from llmengine.mock.behaviour import Behaviour, Call, Fault, RawReply, Script
from llmengine.mock.server import MockServer

__all__ = ["Behaviour", "Call", "Fault", "MockServer", "RawReply", "Script"]
