"""The header of a run, from the session that it was made with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_llmengine.reports.report import Header
from pytest_llmengine.reports.version import tool_version

if TYPE_CHECKING:
    from pytest_llmengine.contract.registry import Tier
    from pytest_llmengine.targets import Session


def header_of(session: Session, tier: Tier) -> Header:
    """What is tested, how, and from now on."""
    return Header(
        engine=session.engine.name,
        version=session.provenance.version,
        model=session.engine.model,
        mode=session.mode.value,
        describe=session.describe(),
        tier=tier.name.lower(),
        date=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        tool_version=tool_version(),
    )
