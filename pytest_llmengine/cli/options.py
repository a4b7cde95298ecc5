"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum


class TierName(StrEnum):
    """How deep to go; a tier includes those before it."""

    SMOKE = "smoke"
    CORE = "core"
    EXTENDED = "extended"
