"""Which DSPy is installed, and which kind of language model it takes."""

from __future__ import annotations

from enum import Enum
from importlib.metadata import PackageNotFoundError, version

from llmengine.types.errors import ConfigError

_NEW_LM = (2, 5)
_ENGINES = (3, 4)


class Generation(Enum):
    """What a language model is to a DSPy."""

    LEGACY = "up to 2.4: a prompt in, a list of texts out"
    FORWARD = "2.5 to 3.3: messages in, an OpenAI-shaped answer out"
    ENGINE = "from 3.4: an engine that DSPy drives"

    @classmethod
    def of(cls, dspy_version: str) -> Generation:
        """The generation of a version such as ``"3.4.1"``."""
        major, minor = (int(part) for part in dspy_version.split(".")[:2])
        if (major, minor) >= _ENGINES:
            return cls.ENGINE
        return cls.FORWARD if (major, minor) >= _NEW_LM else cls.LEGACY


def installed() -> Generation:
    """The generation of the installed DSPy; raises ConfigError where there is none."""
    return Generation.of(installed_version())


def installed_version() -> str:
    """The version of the installed DSPy, from its metadata: 2.4.9 has no ``__version__``.

    Raises ConfigError where there is none.
    """
    for name in ("dspy", "dspy-ai"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise ConfigError(
        "DSPy is not installed; run: pip install 'pytest-llmengine[dspy]', "
        "or dspy-ai==2.4.9 in an environment of its own"
    )
