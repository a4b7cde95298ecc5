"""The ``llmengine`` command: one file per command group. Heavy modules are imported when used."""

from pytest_llmengine.cli.app import main

__all__ = ["main"]
