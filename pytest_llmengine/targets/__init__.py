"""An engine's name and a run's settings become a session: an engine that answers at an address."""

from pytest_llmengine.targets.judge import judge
from pytest_llmengine.targets.plan import config_named, has_server, is_installed, with_contract
from pytest_llmengine.targets.session import Session, open_session
from pytest_llmengine.targets.settings import (
    AlreadyRecorded,
    EngineMissing,
    Mode,
    NotInstalled,
    Settings,
    TargetError,
)

__all__ = [
    "AlreadyRecorded",
    "EngineMissing",
    "Mode",
    "NotInstalled",
    "Session",
    "Settings",
    "TargetError",
    "config_named",
    "has_server",
    "is_installed",
    "judge",
    "open_session",
    "with_contract",
]
