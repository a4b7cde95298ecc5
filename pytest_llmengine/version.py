"""The version of pytest-llmengine."""

from __future__ import annotations


def tool_version() -> str:
    """The installed version of pytest-llmengine."""
    from importlib import metadata  # noqa: PLC0415 - keeps --help fast

    try:
        return metadata.version("pytest-llmengine")
    except metadata.PackageNotFoundError:
        return "from source, not installed"
