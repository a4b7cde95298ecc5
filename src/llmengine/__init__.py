"""Light, stateless clients for LLM servers, with the call shape of in-process vLLM.

Names are loaded when they are first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.batch.reading import read_batch as read_batch
    from llmengine.batch.report import BatchReport as BatchReport
    from llmengine.batch.report import Progress as Progress
    from llmengine.batch.run import run_batch as run_batch
    from llmengine.config.engine_config import EngineConfig as EngineConfig
    from llmengine.config.files import load_engines as load_engines
    from llmengine.config.price import Price as Price
    from llmengine.config.timeouts import Timeouts as Timeouts
    from llmengine.engine.engine import Engine as Engine
    from llmengine.pool.pool import EnginePool as EnginePool
    from llmengine.pool.registry import get_engine as get_engine
    from llmengine.pool.registry import get_engine_config as get_engine_config
    from llmengine.pool.registry import register_engine as register_engine
    from llmengine.transport.answer_limits import AnswerLimits as AnswerLimits
    from llmengine.transport.background import pauses as pauses
    from llmengine.values.capabilities import Capability as Capability
    from llmengine.values.errors import AnswerTooLargeError as AnswerTooLargeError
    from llmengine.values.errors import APIConnectionError as APIConnectionError
    from llmengine.values.errors import APITimeoutError as APITimeoutError
    from llmengine.values.errors import AuthenticationError as AuthenticationError
    from llmengine.values.errors import BadRequestError as BadRequestError
    from llmengine.values.errors import BatchError as BatchError
    from llmengine.values.errors import CallError as CallError
    from llmengine.values.errors import ConfigError as ConfigError
    from llmengine.values.errors import ContextLengthError as ContextLengthError
    from llmengine.values.errors import InternalServerError as InternalServerError
    from llmengine.values.errors import InvalidFieldError as InvalidFieldError
    from llmengine.values.errors import InvalidRequestError as InvalidRequestError
    from llmengine.values.errors import LLMEngineError as LLMEngineError
    from llmengine.values.errors import NotFoundError as NotFoundError
    from llmengine.values.errors import QuotaError as QuotaError
    from llmengine.values.errors import RateLimitError as RateLimitError
    from llmengine.values.errors import RefusedError as RefusedError
    from llmengine.values.errors import StreamIncompleteError as StreamIncompleteError
    from llmengine.values.errors import StructuredOutputError as StructuredOutputError
    from llmengine.values.errors import TruncatedError as TruncatedError
    from llmengine.values.errors import UnexpectedResponseError as UnexpectedResponseError
    from llmengine.values.errors import UnknownArgumentError as UnknownArgumentError
    from llmengine.values.errors import UnknownEngineError as UnknownEngineError
    from llmengine.values.errors import WhitespaceLoopError as WhitespaceLoopError
    from llmengine.values.fingerprint import Fingerprint as Fingerprint
    from llmengine.values.outputs import CompletionOutput as CompletionOutput
    from llmengine.values.outputs import Delta as Delta
    from llmengine.values.outputs import LLMOutput as LLMOutput
    from llmengine.values.outputs import Logprob as Logprob
    from llmengine.values.outputs import Result as Result
    from llmengine.values.outputs import ToolCall as ToolCall
    from llmengine.values.outputs import Usage as Usage
    from llmengine.values.sampling import SamplingParams as SamplingParams
    from llmengine.values.tokens import Tokens as Tokens
    from llmengine.worker.factory import get_worker as get_worker
    from llmengine.worker.worker import LLMWorker as LLMWorker
    from llmengine.worker.worker import OpenAICompatibleWorker as OpenAICompatibleWorker

# Whoever wants to read the log adds a handler; see docs/telemetry.md.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "batch.reading": ("read_batch",),
    "batch.report": ("BatchReport", "Progress"),
    "batch.run": ("run_batch",),
    "config.engine_config": ("EngineConfig",),
    "config.files": ("load_engines",),
    "config.price": ("Price",),
    "config.timeouts": ("Timeouts",),
    "engine.engine": ("Engine",),
    "pool.pool": ("EnginePool",),
    "pool.registry": ("get_engine", "get_engine_config", "register_engine"),
    "transport.answer_limits": ("AnswerLimits",),
    "transport.background": ("pauses",),
    "values.capabilities": ("Capability",),
    "values.errors": (
        "APIConnectionError",
        "APITimeoutError",
        "AnswerTooLargeError",
        "AuthenticationError",
        "BadRequestError",
        "BatchError",
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
    "values.fingerprint": ("Fingerprint",),
    "values.outputs": (
        "CompletionOutput",
        "Delta",
        "LLMOutput",
        "Logprob",
        "Result",
        "ToolCall",
        "Usage",
    ),
    "values.sampling": ("SamplingParams",),
    "values.tokens": ("Tokens",),
    "worker.factory": ("get_worker",),
    "worker.worker": ("LLMWorker", "OpenAICompatibleWorker"),
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
