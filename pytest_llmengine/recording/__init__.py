"""Record and replay: a proxy on loopback that writes and plays cassettes in vcrpy's format.

Clients are only given another address. Every client that sends HTTP to `root_url` is recorded or
replayed, in any language, and nothing is patched.
"""

from pytest_llmengine.recording.cassette import RecordTape, ReplayTape, Tape, unused_cassettes
from pytest_llmengine.recording.errors import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.record import RecordServer
from pytest_llmengine.recording.replay import ReplayServer

__all__ = [
    "CassetteError",
    "CassetteNotFoundError",
    "Provenance",
    "RecordServer",
    "RecordTape",
    "ReplayServer",
    "ReplayTape",
    "Tape",
    "unused_cassettes",
]
