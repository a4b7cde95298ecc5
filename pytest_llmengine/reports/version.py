"""Which version of this tool made a report."""

from __future__ import annotations


def tool_version() -> str:
    """The installed version of pytest-llmengine."""
    from importlib import metadata  # noqa: PLC0415 - help stays fast so

    try:
        return metadata.version("pytest-llmengine")
    except metadata.PackageNotFoundError:
        return "from source, not installed"
