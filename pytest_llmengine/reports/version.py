"""Which version of this tool made a report."""

from __future__ import annotations

from importlib import metadata


def tool_version() -> str:
    """The installed version of pytest-llmengine."""
    try:
        return metadata.version("pytest-llmengine")
    except metadata.PackageNotFoundError:
        return "from source, not installed"
