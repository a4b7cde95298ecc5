"""DSPy's own language models at an engine's server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.ollama import OllamaChat
from llmengine.integrations.dspy.generation import Generation, installed
from llmengine.integrations.dspy.source import engine_of
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.source import Source

_NO_KEY = "EMPTY"  # DSPy's clients refuse to send nothing


def native_lm(source: Source, *, declared: bool = False, **arguments: Any) -> Any:
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
        from llmengine.integrations.dspy.legacy.native import NativeOpenAI  # noqa: PLC0415 - dspy

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
        from llmengine.integrations.dspy.lm15.provider import declare  # noqa: PLC0415 - dspy
    else:
        from llmengine.integrations.dspy.forward.declaring import declare  # noqa: PLC0415 - litellm
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
