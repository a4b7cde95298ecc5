"""One LLM a process for one configuration, however many engines have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.vllm_local.thread import LLMThread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.transport.loop import Background


class Share:
    """A user's share in the LLM of a configuration; its methods are for the loop.

    The loop keeps the LLMs, so they end with it, at exit, and a forked child begins without any.
    """

    def __init__(self, user: object, model: str, options: Mapping[str, Any]) -> None:
        self._user = user
        self._model = model
        self._options = options
        self._name = f"vllm {model} {sorted(options.items())}"

    async def loaded(self, loop: Background) -> None:
        """Wait until the model is loaded; raises ConfigError if it cannot be."""
        while (thread := self.thread(loop)).is_closing:
            await thread.ended.wait()
        await thread.loaded()

    def thread(self, loop: Background) -> LLMThread:
        """The thread of the LLM, which is started where there is none."""
        kept = loop.kept(self._name)
        if kept is not None and kept.ended.is_set():
            loop.drop(self._name)
        thread = loop.shared(self._name, lambda: LLMThread(self._model, self._options))
        thread.users.add(self._user)
        return thread

    async def leave(self, loop: Background) -> None:
        """Give the share up; the last one releases the LLM."""
        thread: LLMThread | None = loop.kept(self._name)
        if thread is None:
            return
        thread.users.discard(self._user)
        if not thread.users:
            await thread.aclose()
