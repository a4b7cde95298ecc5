"""The plainest way to ask: a text in, a text out, configured by the environment or ``.env``."""

from llmengine.worker.factory import get_worker
from llmengine.worker.worker import EngineWorker, LLMWorker, OpenAICompatibleWorker

__all__ = ["EngineWorker", "LLMWorker", "OpenAICompatibleWorker", "get_worker"]
