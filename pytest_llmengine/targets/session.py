"""An engine that can be talked to, live, while recording, or from recordings."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.values.errors import LLMEngineError
from pytest_llmengine.contract.profile import Profile, load_profile
from pytest_llmengine.contract.target import Target
from pytest_llmengine.recording import Provenance, RecordServer, ReplayServer
from pytest_llmengine.targets.errors import TargetError
from pytest_llmengine.targets.plan import Plan, make_plan
from pytest_llmengine.targets.recorded import provenance_of
from pytest_llmengine.targets.server import identify
from pytest_llmengine.targets.settings import Mode, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.config.engine_config import EngineConfig
    from llmengine.engine.engine import Engine
    from pytest_llmengine.recording import Tape


@dataclass(frozen=True, slots=True)
class Session:
    """One engine, open: our client and the contract's target at one address.

    ``provenance`` says which server answers, or answered when it was recorded.
    """

    engine: Engine
    target: Target
    mode: Mode
    provenance: Provenance
    profile: Profile
    _folder: Path
    _proxy: RecordServer | ReplayServer | None = None

    @property
    def name(self) -> str:
        """The engine's name, which is also that of its folder of cassettes."""
        return self.engine.name

    def describe(self) -> str:
        """Where the answers come from, in one line and without a key."""
        if self.mode is Mode.REPLAY:
            return f"replayed from {self.provenance.describe()}"
        ...

    @contextmanager
    def cassette(self, name: str) -> Iterator[Tape | None]:
        """Record to, or replay from, the engine's cassette of that name; live it does nothing."""
        if self._proxy is None:
            yield None
            return
        with self._proxy.cassette(self._folder / f"{name}.yaml") as tape:
            yield tape
