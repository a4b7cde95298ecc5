"""Record and replay: a proxy on loopback that writes and plays cassettes in vcrpy's format.

Clients are only given another address. Every client that sends HTTP to `root_url` is recorded or
replayed, in any language, and nothing is patched.
"""

import warnings

from pytest_llmengine.recording.cassette import Cassette, unused_cassettes
from pytest_llmengine.recording.config import Clock, RecordingConfig, RecordingOptions
from pytest_llmengine.recording.errors import (
    CassetteError,
    CassetteExpiredError,
    CassetteExpiredWarning,
    CassetteNotFoundError,
)
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.record import RecordServer
from pytest_llmengine.recording.record_cassette import RecordCassette
from pytest_llmengine.recording.replay import ReplayCassette, ReplayServer

__all__ = [
    "Cassette",
    "CassetteError",
    "CassetteExpiredError",
    "CassetteExpiredWarning",
    "CassetteNotFoundError",
    "Clock",
    "Provenance",
    "RecordCassette",
    "RecordServer",
    "RecordingConfig",
    "RecordingOptions",
    "ReplayCassette",
    "ReplayServer",
    "unused_cassettes",
]

_OLD_NAMES = {"Tape": Cassette, "RecordTape": RecordCassette, "ReplayTape": ReplayCassette}


def __getattr__(name: str) -> type[Cassette]:
    """The classes under their old names, which go with the next release."""
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _OLD_NAMES[name]
    warnings.warn(f"{name} is deprecated; write {new.__name__}", DeprecationWarning, stacklevel=2)
    return new
