"""The ``llmengine`` command: one file per command group; heavy modules are imported late."""

from pytest_llmengine.cli.app import main

__all__ = ["main"]
