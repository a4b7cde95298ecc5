"""Holding Ollama to reading the whole prompt, which it cuts to its context without a word.

Asked with ``truncate: false`` a server of today refuses what does not fit (``ChatRequest`` of
Ollama's api/types.go). An older one ignores the field; what it counted gives it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.values.errors import ContextLengthError

if TYPE_CHECKING:
    from llmengine.values.outputs import LLMOutput
    from llmengine.values.request import ChatRequest, Message

# `shift` would drop the beginning of the conversation once the answer fills the context.
WHOLE = {"truncate": False, "shift": False}


def refuse_a_cut_prompt(output: LLMOutput, request: ChatRequest) -> None:
    """Raise ContextLengthError if the server counted fewer tokens than the prompt has words.

    A word between blanks is at least one token, so fewer tokens prove the cut. Too many do not
    prove that all was read: in scripts without blanks nothing can be told from the count.
    """
    read = output.usage.prompt_tokens if output.usage is not None else None
    if read is None or request.extra_body.get("truncate") is True:
        return
    words = sum(_words(message) for message in request.messages)
    if words <= read:
        return
    error = ContextLengthError(
        f"the server cut the prompt without saying so: it has {words} words at the least, and "
        f"{read} tokens were read; give the model more context (num_ctx in the options of "
        "/api/chat, OLLAMA_CONTEXT_LENGTH of the server) or a shorter prompt; to accept the cut "
        "say so by extra_body: {truncate: true}"
    )
    error.partial = output
    raise error


def _words(message: Message) -> int:
    content = message.get("content")
    if isinstance(content, str):
        return len(content.split())
    if not isinstance(content, (list, tuple)):
        return 0
    return sum(len(part["text"].split()) for part in content if part.get("type") == "text")
