"""Holding Ollama to reading the whole prompt, which it cuts to its context without a word.

Asked with ``truncate: false`` a server of today refuses what does not fit (``ChatRequest`` of
Ollama's api/types.go). An older one, and the route ``/v1``, ignore the field; what the server
counted shows the cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmengine.types.errors import ContextLengthError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest

# `shift` would drop the beginning of the conversation once the answer fills the context.
WHOLE = {"truncate": False, "shift": False}


def refuse_a_cut_prompt(output: LLMOutput, request: ChatRequest) -> None:
    """Raise ContextLengthError if the server counted fewer tokens than the prompt has words.

    A word between blanks is at least one token, so fewer tokens prove the cut. Too many do not
    prove that all was read: in scripts without blanks nothing can be told from the count alone.
    """
    read = _read(output, request)
    words = sum(len(text.split()) for text in _texts(request))
    if read is not None and words > read:
        raise _cut(output, f"it has at least {words} words, and {read} tokens were read")


def may_be_cut(output: LLMOutput, request: ChatRequest) -> bool:
    """Whether the prompt is long enough for what was read to be what a cut leaves of it."""
    read = _read(output, request)
    return read is not None and sum(len(t.encode()) for t in _texts(request)) > _context_of(read)


def refuse_half_a_context(output: LLMOutput, request: ChatRequest, context: int) -> None:
    """Raise ContextLengthError if as much was read as Ollama leaves of a prompt that does not fit.

    A whole prompt of just that length is taken for one that was cut.
    """
    read = _read(output, request)
    if read is not None and context in {_context_of(read), _context_of(read) + 1}:
        raise _cut(
            output,
            f"{read} tokens were read, which is what Ollama leaves of a prompt that is longer than "
            f"its context of {context}",
        )


def _context_of(read: int) -> int:
    """The context for which a prompt is cut to that many tokens.

    Of a prompt that does not fit, Ollama keeps the first four tokens (``num_keep``) and the end,
    in half of what else there is room for.
    """
    return 2 * read - 4


def _cut(output: LLMOutput, what: str) -> ContextLengthError:
    error = ContextLengthError(
        f"the server cut the prompt without saying so: {what}; give the model more context "
        "(num_ctx in the options of /api/chat, OLLAMA_CONTEXT_LENGTH of the server) or a shorter "
        "prompt; to accept the cut say so by extra_body: {truncate: true}"
    )
    error.partial = output
    return error


def _read(output: LLMOutput, request: ChatRequest) -> int | None:
    """How many tokens of the prompt were read; None if it is not known, or a cut is accepted."""
    accepted = request.extra_body.get("truncate") is True
    return None if accepted or output.usage is None else output.usage.prompt_tokens


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, (list, tuple)):
            texts = (part.get("text") for part in content if isinstance(part, Mapping))
            yield from (text for text in texts if isinstance(text, str))
