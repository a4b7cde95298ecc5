"""Containers of a run of pytest: whose they are, what is told of their start, and their end."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.ownership import Owner

_INPUT = "llmengine_owner"  # of what pytest-xdist's controller tells its workers

_owner = pytest.StashKey["Owner"]()


def owner(config: pytest.Config) -> Owner:
    """Who the run's containers belong to: in a worker its controller, if that one is here."""
    if _owner not in config.stash:
        from pytest_llmengine.containers.ownership import Owner  # noqa: PLC0415 - unused runs stay light

        told = getattr(config, "workerinput", {}).get(_INPUT)
        controller = Owner(**told) if told else None
        shared = controller is not None and controller.is_here
        config.stash[_owner] = controller if controller and shared else Owner.here()
    return config.stash[_owner]


def tell_worker(node: Any) -> None:
    """Tell a worker of pytest-xdist whose containers it shares."""
    node.workerinput[_INPUT] = asdict(owner(node.config))


def end(config: pytest.Config) -> None:
    """Remove the run's containers, where the run is this process's own."""
    if _owner in config.stash and config.stash[_owner].is_this_process:
        from pytest_llmengine.containers.ownership import end_run  # noqa: PLC0415 - unused runs stay light

        end_run(config.stash[_owner])


def teller(config: pytest.Config) -> OnProgress:
    """Prints a line for each step of a start, which may take minutes; a worker prints nothing."""
    from llmengine.types.printable import printable  # noqa: PLC0415 - unused runs stay light

    told = ""

    def tell(what: str, done: int, total: int) -> None:  # noqa: ARG001 - lines have no bar
        nonlocal told
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or what == told:
            return
        told = what
        capture = config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.ensure_newline()
            terminal.write_line(printable(f"llmengine: {what}"))

    return tell
