"""Messages as a prompt, by the way that ``LLM.chat`` goes itself."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from llmengine.types.request import ChatRequest

# Arguments of ``LLM.chat`` that a call may set by ``extra_body``, under the server's names too.
_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "chat_template_content_format",
        "chat_template_kwargs",
        "continue_final_message",
        "mm_processor_kwargs",
        "tokenization_kwargs",
    }
)
# vLLM's name for it since 0.14, and the one before; each takes a list of conversations.
_RENDERERS = ("_preprocess_chat", "preprocess_chat")


def render(llm: Any, request: ChatRequest) -> Any:
    """The request's messages as what vLLM's engine takes, tokenized.

    Raises ConfigError where this vLLM has no such step, and what vLLM raises for messages that it
    does not take.
    """
    messages = deepcopy(list(request.messages))  # vLLM turns the arguments of calls into values
    for name in _RENDERERS:
        if (renderer := getattr(llm, name, None)) is not None:
            (prompt,) = renderer([messages], **chat_arguments(request))
            return prompt
    import vllm  # noqa: PLC0415 - for the message alone

    msg = f"vLLM {vllm.__version__} renders chats in a way that vllm_local does not know"
    raise ConfigError(msg)


def chat_arguments(request: ChatRequest) -> dict[str, Any]:
    """The arguments of ``LLM.chat`` that say how the messages become a prompt.

    Raises InvalidRequestError for a field of ``extra_body`` that means nothing in process.
    """
    if unknown := sorted(request.extra_body.keys() - _ARGUMENTS):
        msg = (
            f"extra_body has {unknown[0]!r}, which is no argument of LLM.chat; "
            f"known are {', '.join(sorted(_ARGUMENTS))}"
        )
        raise InvalidRequestError(msg)
    arguments = dict(request.extra_body)
    if variables := _reasoning(request.reasoning) | arguments.get("chat_template_kwargs", {}):
        arguments["chat_template_kwargs"] = variables
    if request.tools:
        arguments["tools"] = list(request.tools)
    return arguments


def _reasoning(asked: bool | str | None) -> dict[str, Any]:
    """What ``vllm serve`` tells the chat template of it."""
    if asked is None:
        return {}
    if isinstance(asked, str):
        return {"reasoning_effort": asked, "enable_thinking": asked != "none"}
    return {"enable_thinking": asked}
