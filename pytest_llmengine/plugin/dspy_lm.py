"""DSPy's settings for one test, with an engine as the language model."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llmengine.integrations.dspy import purge_dead_threads, to_lm
from pytest_llmengine.plugin.missing_engine import cannot_open
from pytest_llmengine.targets import EngineMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from llmengine import Engine


@contextmanager
def in_settings(
    engine: Engine, config: pytest.Config, folders: pytest.TempPathFactory
) -> Iterator[Any]:
    """Set a language model over the engine in DSPy; ends the test if DSPy is not installed."""
    if importlib.util.find_spec("dspy") is None:
        command = "pip install 'pytest-llmengine[dspy]'"
        raise cannot_open(config, EngineMissing(f"DSPy is not installed; run: {command}"))
    if "dspy" not in sys.modules:
        _keep_to_itself(folders)
    import dspy  # noqa: PLC0415 - only where it is used

    purge_dead_threads()
    with dspy.settings.context(lm=(lm := to_lm(engine))):
        yield lm
    purge_dead_threads()


def _keep_to_itself(folders: pytest.TempPathFactory) -> None:
    """Set the variables that DSPy reads at import: no prices from the network, no cache in home."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("DSP_CACHEBOOL", "false")
    if "DSPY_CACHEDIR" not in os.environ:
        os.environ["DSPY_CACHEDIR"] = str(folders.mktemp("dspy"))
