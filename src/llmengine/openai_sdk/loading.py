"""The SDK, imported when an engine needs it and not before."""

from __future__ import annotations

from typing import Any

from llmengine.transport.logs import scrub_logs
from llmengine.types.errors import ConfigError

_OLDEST = 2


def load_sdk() -> Any:
    """The module ``openai``, with its log kept free of keys.

    Raises ConfigError if the extra is not installed, or a version too old for it is.
    """
    install = "pip install 'pytest-llmengine[openai]'"
    try:
        import openai  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        msg = f"backend 'openai' needs the openai SDK: {install}"
        raise ConfigError(msg) from error
    if int(openai.__version__.partition(".")[0]) < _OLDEST:
        msg = f"backend 'openai' needs openai 2 or later, not {openai.__version__}: {install}"
        raise ConfigError(msg)
    scrub_logs()
    return openai
