"""The ``llmengine`` command: one file a group, nothing heavy imported early."""

from pytest_llmengine.cli.app import main

__all__ = ["main"]
