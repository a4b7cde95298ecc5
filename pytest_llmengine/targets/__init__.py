"""From an engine's name and a run's settings to something that answers at an address."""

from pytest_llmengine.targets.errors import AlreadyRecorded, NotInstalled, TargetError
from pytest_llmengine.targets.naming import config_named, has_server, is_here
from pytest_llmengine.targets.plan import with_contract
from pytest_llmengine.targets.session import Session, open_session
from pytest_llmengine.targets.settings import Mode, Settings
from pytest_llmengine.targets.verdicts import judge

__all__ = [
    "AlreadyRecorded",
    "Mode",
    "NotInstalled",
    "Session",
    "Settings",
    "TargetError",
    "config_named",
    "has_server",
    "is_here",
    "judge",
    "open_session",
    "with_contract",
]
