"""The language model for the installed DSPy: over an engine, or DSPy's own."""

from __future__ import annotations

import threading
from enum import Enum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from llmengine.dialects.ollama import OllamaChat
from llmengine.integrations.dspy.adapter import NO_KEY, DSPyEngine, engine_of
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import dspy

    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.adapter import LMSource


_FIRST_WITH_LITELLM = (2, 5)
_FIRST_WITH_ENGINES = (3, 4)


class Generation(Enum):
    """The kind of language model that a DSPy version uses."""

    LEGACY = "up to 2.4: takes a prompt, returns a list of texts"
    FORWARD = "2.5 to 3.3: takes messages, returns an answer in OpenAI's shape"
    ENGINE = "from 3.4: an engine that DSPy calls"

    @classmethod
    def of(cls, dspy_version: str) -> Generation:
        """The generation of a version, such as ``"3.4.1"``."""
        major, minor = (int(part) for part in dspy_version.split(".")[:2])
        if (major, minor) >= _FIRST_WITH_ENGINES:
            return cls.ENGINE
        return cls.FORWARD if (major, minor) >= _FIRST_WITH_LITELLM else cls.LEGACY


def installed() -> Generation:
    """The generation of the installed DSPy; raises ConfigError if DSPy is not installed."""
    return Generation.of(installed_version())


def installed_version() -> str:
    """The version of the installed DSPy, from its metadata, as 2.4.9 has no ``__version__``.

    Raises ConfigError if DSPy is not installed.
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


def purge_dead_threads() -> int:
    """Delete the settings of threads that have ended, and return how many there were.

    DSPy 2.4 stores settings by thread id, and Python gives the ids of ended threads to new ones. A
    new thread with an old id therefore runs with the language model of the ended thread. On DSPy
    2.4, call this before you start threads; later versions have no such list.
    """
    import dspy  # noqa: PLC0415 - optional

    stacks = getattr(dspy.settings, "stack_by_thread", {})
    alive = {thread.ident for thread in threading.enumerate()}
    dead = [ident for ident in list(stacks) if ident not in alive]
    for ident in dead:
        stacks.pop(ident, None)
    return len(dead)


def native_lm(source: LMSource, *, declared: bool = False, **arguments: object) -> dspy.LM:
    """Make DSPy's own LM for the server, the model and the key of an engine or a configuration.

    The LM is ``openai/<model>``, or ``ollama_chat/<model>`` for an engine that speaks Ollama's
    native chat; on 2.4 it is ``dspy.OpenAI``. It gets the time limit, retries, sampling,
    ``extra_body`` and headers of the configuration; ``arguments`` of the LM override them.
    ``cache`` is off by default, because DSPy's cache ignores the address.

    DSPy sends schemas and tools only to models that it knows. ``declared`` tells DSPy what the
    engine's server can do; from 3.4 on this registers the server as a provider with its own name.
    It has no effect on 2.4, which sends neither schemas nor tools.
    """
    engine = engine_of(source)
    if engine.backend.address.query:
        raise ConfigError(
            f"engine {engine.name!r}: DSPy's own LM does not send the query string of the "
            "endpoint; use to_lm(), which does"
        )
    if installed() is Generation.LEGACY:
        from llmengine.integrations.dspy.dspy2_4 import NativeOpenAI  # noqa: PLC0415 - dspy

        return NativeOpenAI(engine, **_settings(engine) | arguments)
    import dspy  # noqa: PLC0415 - optional

    model, base = _route(engine)
    if declared:
        model = _declare(engine, model)
    connection: dict[str, object] = {
        "api_base": base,
        "api_key": engine.api_key or NO_KEY,
        "num_retries": engine.config.max_retries,
        "cache": False,
    }
    return dspy.LM(model, **connection | _settings(engine) | arguments)


def _declare(engine: Engine, model: str) -> str:
    """Register the server's capabilities with the installed DSPy; return the model's name."""
    if installed() is Generation.ENGINE:
        from llmengine.integrations.dspy.dspy3_4 import declare  # noqa: PLC0415 - imports dspy

        return declare(engine, model)
    from llmengine.integrations.dspy import litellm_facts  # noqa: PLC0415 - imports litellm

    return litellm_facts.declare(engine, model)


def _settings(engine: Engine) -> dict[str, object]:
    """Sampling, time limit, extra body and headers of a configuration as arguments of DSPy's LM.

    Empty ones are left out: from 3.4 on, extra bodies and headers make DSPy use litellm.
    """
    config = engine.config
    named = {
        "timeout": config.timeout.total,
        "extra_body": config.extra_body,
        "extra_headers": engine.backend.address.own_headers,
    }
    return config.sampling.given() | {name: value for name, value in named.items() if value}


def _route(engine: Engine) -> tuple[str, str]:
    """The model in DSPy's spelling, and the address to which DSPy adds the path of a route."""
    if not isinstance(engine.backend.dialect, OllamaChat):
        return f"openai/{engine.model}", engine.base_url
    # litellm uses Ollama's own route; DSPy's own client only has the OpenAI-compatible one.
    base = engine.base_url if installed() is Generation.ENGINE else engine.root_url
    return f"ollama_chat/{engine.model}", base


_MODULES = {
    Generation.LEGACY: "dspy2_4",
    Generation.FORWARD: "dspy2_5",
    Generation.ENGINE: "dspy3_4",
}


def to_lm(source: LMSource, *, num_retries: int | None = None, **arguments: object) -> dspy.LM:
    """Make a ``dspy.LM`` for the installed DSPy over an engine, a configuration or a worker.

    The engine retries, ``num_retries`` times or as configured, and DSPy does not. ``arguments``
    are those of DSPy's own LM, such as ``temperature``, ``max_tokens`` or ``callbacks``. ``cache``
    is off by default; 2.4 has no cache for this model. Raises ConfigError if DSPy is not installed
    or if ``source`` is none of these objects.
    """
    module = import_module(f"{__package__}.{_MODULES[installed()]}")
    if installed() is not Generation.LEGACY:
        arguments = {"cache": False} | arguments
    return module.make_lm(DSPyEngine(engine_of(source, num_retries=num_retries)), **arguments)
