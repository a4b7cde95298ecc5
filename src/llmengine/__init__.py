"""Light, stateless clients for LLM servers, with the call shape of in-process vLLM.

Names are loaded when they are first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.batch.journal import read_batch as read_batch
    from llmengine.batch.report import BatchReport as BatchReport
    from llmengine.batch.report import Progress as Progress
    from llmengine.batch.run import run_batch as run_batch
    from llmengine.config.engine import EngineConfig as EngineConfig
    from llmengine.config.engine import Price as Price
    from llmengine.config.engine import Timeouts as Timeouts
    from llmengine.config.files import load_engines as load_engines
    from llmengine.engine.engine import Engine as Engine
    from llmengine.pool.pool import EnginePool as EnginePool
    from llmengine.pool.pool import get_engine as get_engine
    from llmengine.pool.pool import get_engine_config as get_engine_config
    from llmengine.pool.pool import register_engine as register_engine
    from llmengine.transport.answer_limits import AnswerLimits as AnswerLimits
    from llmengine.transport.loop import pauses as pauses
    from llmengine.types.errors import AnswerTooLargeError as AnswerTooLargeError
    from llmengine.types.errors import APIConnectionError as APIConnectionError
    from llmengine.types.errors import APITimeoutError as APITimeoutError
    from llmengine.types.errors import AuthenticationError as AuthenticationError
    from llmengine.types.errors import BadRequestError as BadRequestError
    from llmengine.types.errors import CallError as CallError
    from llmengine.types.errors import ConfigError as ConfigError
    from llmengine.types.errors import ContextLengthError as ContextLengthError
    from llmengine.types.errors import InternalServerError as InternalServerError
    from llmengine.types.errors import InvalidFieldError as InvalidFieldError
    from llmengine.types.errors import InvalidRequestError as InvalidRequestError
    from llmengine.types.errors import LLMEngineError as LLMEngineError
    from llmengine.types.errors import NotFoundError as NotFoundError
    from llmengine.types.errors import QuotaError as QuotaError
    from llmengine.types.errors import RateLimitError as RateLimitError
    from llmengine.types.errors import RefusedError as RefusedError
    from llmengine.types.errors import StreamIncompleteError as StreamIncompleteError
    from llmengine.types.errors import StructuredOutputError as StructuredOutputError
    from llmengine.types.errors import TruncatedError as TruncatedError
    from llmengine.types.errors import UnexpectedResponseError as UnexpectedResponseError
    from llmengine.types.errors import UnknownArgumentError as UnknownArgumentError
    from llmengine.types.errors import UnknownEngineError as UnknownEngineError
    from llmengine.types.errors import WhitespaceLoopError as WhitespaceLoopError
    from llmengine.types.outputs import CompletionOutput as CompletionOutput
    from llmengine.types.outputs import Delta as Delta
    from llmengine.types.outputs import Fingerprint as Fingerprint
    from llmengine.types.outputs import LLMOutput as LLMOutput
    from llmengine.types.outputs import Logprob as Logprob
    from llmengine.types.outputs import Tokens as Tokens
    from llmengine.types.outputs import ToolCall as ToolCall
    from llmengine.types.outputs import Usage as Usage
    from llmengine.types.request import Capability as Capability
    from llmengine.types.results import BatchError as BatchError
    from llmengine.types.results import Result as Result
    from llmengine.types.sampling import SamplingParams as SamplingParams
    from llmengine.worker import LLMWorker as LLMWorker
    from llmengine.worker import OpenAICompatibleWorker as OpenAICompatibleWorker
    from llmengine.worker import get_worker as get_worker

# Whoever wants to read the log adds a handler; see docs/telemetry.md.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "batch.journal": ("read_batch",),
    "batch.report": ("BatchReport", "Progress"),
    "batch.run": ("run_batch",),
    "config.engine": ("EngineConfig", "Price", "Timeouts"),
    "config.files": ("load_engines",),
    "engine.engine": ("Engine",),
    "pool.pool": ("EnginePool", "get_engine", "get_engine_config", "register_engine"),
    "transport.answer_limits": ("AnswerLimits",),
    "transport.loop": ("pauses",),
    "types.errors": (
        "AnswerTooLargeError",
        "APIConnectionError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "CallError",
        "ConfigError",
        "ContextLengthError",
        "InternalServerError",
        "InvalidFieldError",
        "InvalidRequestError",
        "LLMEngineError",
        "NotFoundError",
        "QuotaError",
        "RateLimitError",
        "RefusedError",
        "StreamIncompleteError",
        "StructuredOutputError",
        "TruncatedError",
        "UnexpectedResponseError",
        "UnknownArgumentError",
        "UnknownEngineError",
        "WhitespaceLoopError",
    ),
    "types.outputs": (
        "CompletionOutput",
        "Delta",
        "Fingerprint",
        "LLMOutput",
        "Logprob",
        "Tokens",
        "ToolCall",
        "Usage",
    ),
    "types.request": ("Capability",),
    "types.results": ("BatchError", "Result"),
    "types.sampling": ("SamplingParams",),
    "worker": ("LLMWorker", "OpenAICompatibleWorker", "get_worker"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604 - one table, no second list
    *sorted(_HOME_OF, key=str.casefold),
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
