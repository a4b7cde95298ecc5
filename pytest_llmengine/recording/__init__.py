"""Record and replay: a proxy on loopback, and a cassette in vcrpy's format.

The address is the seam: whatever speaks HTTP to `root_url` is recorded or replayed, in any
language, with nothing patched.
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
