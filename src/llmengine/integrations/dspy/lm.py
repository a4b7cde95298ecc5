"""Which DSPy is installed, and which kind of language model it takes.

DSPy 2.4 keeps settings by thread id, and Python gives ids of ended threads to new ones.

DSPy's own language models at an engine's server.

The language model that the installed DSPy takes.
"""

from __future__ import annotations

import threading
from enum import Enum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from llmengine.dialects.ollama import OllamaChat
from llmengine.integrations.dspy.adapter import DSPyEngine, engine_of
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.adapter import LMSource


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


def purge_dead_threads() -> int:
    """Forget the settings of threads that have ended; how many there were.

    Without it a new thread that is given an old id runs with the language model that was
    configured then. Call it before starting threads, on 2.4; later DSPys have no such list.
    """
    import dspy  # noqa: PLC0415 - only where it is used

    stacks = getattr(dspy.settings, "stack_by_thread", {})
    alive = {thread.ident for thread in threading.enumerate()}
    dead = [ident for ident in list(stacks) if ident not in alive]
    for ident in dead:
        stacks.pop(ident, None)
    return len(dead)


_NO_KEY = "EMPTY"  # DSPy's clients refuse to send nothing


def native_lm(source: LMSource, *, declared: bool = False, **arguments: Any) -> Any:
    """DSPy's own LM for the server, the model and the key of an engine or its configuration.

    It is ``openai/<model>``, and ``ollama_chat/<model>`` for an engine that speaks Ollama's native
    chat; on 2.4 it is ``dspy.OpenAI``. Time limit, retries, sampling, ``extra_body`` and headers
    of the configuration go with it; ``arguments`` are the LM's own and go over them. ``cache`` is
    off unless asked for, since DSPy's does not look at the address.

    DSPy sends schemas and tools only to models that it knows. With ``declared`` it is told what
    the engine's server can do; from 3.4 on that makes the server a provider of its own name. 2.4
    sends neither, and has nothing to be told.
    """
    engine = engine_of(source)
    if engine.query:
        raise ConfigError(
            f"engine {engine.name!r}: DSPy's own LM does not send the query string of the "
            "endpoint; use to_lm(), which does"
        )
    if installed() is Generation.LEGACY:
        from llmengine.integrations.dspy.dspy2_4 import NativeOpenAI  # noqa: PLC0415 - dspy

        return NativeOpenAI(engine, **_carried(engine) | arguments)
    import dspy  # noqa: PLC0415 - only where it is used

    model, base = _route(engine)
    if declared:
        model = _declaring()(engine, model)
    settings: dict[str, Any] = {
        "api_base": base,
        "api_key": engine.api_key or _NO_KEY,
        "num_retries": engine.config.max_retries,
        "cache": False,
    }
    return dspy.LM(model, **settings | _carried(engine) | arguments)


def _declaring() -> Any:
    """What tells the installed DSPy of a server's capabilities, and gives the model's name then."""
    if installed() is Generation.ENGINE:
        from llmengine.integrations.dspy.dspy3_4 import declare  # noqa: PLC0415 - dspy
    else:
        from llmengine.integrations.dspy.litellm_facts import declare  # noqa: PLC0415 - litellm
    return declare


def _carried(engine: Engine) -> dict[str, Any]:
    """What a configuration says that every request has to carry, in the names of OpenAI's SDK.

    Left out where there is nothing: from 3.4 on extra bodies and headers make DSPy use litellm.
    """
    config = engine.config
    named = {
        "timeout": config.timeout.total,
        "extra_body": config.extra_body,
        "extra_headers": engine.own_headers,
    }
    return config.sampling.given() | {name: value for name, value in named.items() if value}


def _route(engine: Engine) -> tuple[str, str]:
    """The model in DSPy's spelling, and the address that DSPy completes to a route."""
    if not isinstance(engine.dialect, OllamaChat):
        return f"openai/{engine.model}", engine.base_url
    # litellm asks Ollama's own route; DSPy's own client has but its OpenAI-compatible one.
    base = engine.base_url if installed() is Generation.ENGINE else engine.root_url
    return f"ollama_chat/{engine.model}", base


_HOMES = {
    Generation.LEGACY: "dspy2_4",
    Generation.FORWARD: "dspy2_5",
    Generation.ENGINE: "dspy3_4",
}


def to_lm(source: LMSource, *, num_retries: int | None = None, **arguments: Any) -> Any:
    """A ``dspy.LM`` over an engine, its configuration or a worker, for the DSPy installed here.

    The engine retries, ``num_retries`` times or as configured, and DSPy does not. ``arguments``
    are those of the DSPy's own LM, such as ``temperature``, ``max_tokens`` or ``callbacks``.
    ``cache`` is off unless asked for; 2.4 has none for this model. Raises ConfigError where there
    is no DSPy, or for a source that is none.
    """
    home = import_module(f"{__package__}.{_HOMES[installed()]}")
    if installed() is not Generation.LEGACY:
        arguments = {"cache": False} | arguments
    return home.make(DSPyEngine(engine_of(source, num_retries=num_retries)), **arguments)
