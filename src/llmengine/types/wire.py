"""The JSON objects of OpenAI's chat API, as types for code that writes or passes on such objects.

The types are for objects that this package builds, and for those it has checked. They are not for
what a server or a user sends: that is a ``Mapping[str, object]`` until each of its fields was
read, in a server's answer with the typed readers of `llmengine.dialects.fields`.

A field is required if this package always writes it: in an answer, the ``role``, ``object`` and
``created`` are not, because `llmengine.vllm_local` leaves them out. The fields that vLLM adds are
included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

JSONObject = Mapping[str, object]
"""A JSON object whose fields are not checked: a message, a schema, or a part of a body."""

JSONSchema = Mapping[str, Any]
"""A JSON schema that is read, keyword by keyword."""

# ---- messages


class TextPart(TypedDict):
    """Text in the content of a message."""

    type: Literal["text"]
    text: str


class ImageURL(TypedDict):
    """An image; ``url`` may be a data URL that holds the image itself."""

    url: str
    detail: NotRequired[str]


class ImagePart(TypedDict):
    """An image in the content of a message."""

    type: Literal["image_url"]
    image_url: ImageURL


ContentPart = TextPart | ImagePart
Content = str | Sequence[ContentPart]


class FunctionCall(TypedDict):
    """The name of a function, and its arguments as JSON text."""

    name: str
    arguments: str


class FunctionToolCall(TypedDict):
    """A call of a function tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class CustomCall(TypedDict):
    """The name of a custom tool, and the text that it is called with."""

    name: str
    input: str


class CustomToolCall(TypedDict):
    """A call of a custom tool."""

    id: str
    type: Literal["custom"]
    custom: CustomCall


class SystemMessage(TypedDict):
    """Instructions for the model; newer models of OpenAI call this role "developer"."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(TypedDict):
    """A message of the user."""

    role: Literal["user"]
    content: Content


class AssistantMessage(TypedDict):
    """An earlier message of the model, in a request."""

    role: Literal["assistant"]
    content: Content | None
    tool_calls: NotRequired[list[FunctionToolCall]]


class ToolMessage(TypedDict):
    """The result of a tool call."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content


ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage

# ---- tools and the format of the answer


class FunctionDefinition(TypedDict):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[JSONObject]
    strict: NotRequired[bool]


class FunctionTool(TypedDict):
    """A tool that is a function of the caller."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(TypedDict):
    """The name of a function that must be called."""

    name: str


class NamedToolChoice(TypedDict):
    """The demand to call one tool."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(TypedDict):
    """The tools that may be called; with the mode "required", one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Sequence[NamedToolChoice]


class AllowedToolsChoice(TypedDict):
    """The restriction of a request to some of its tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice


class NamedSchema(TypedDict):
    """A JSON schema with its name, as ``json_schema`` of a response format."""

    name: str
    schema: JSONObject
    strict: NotRequired[bool]


class JSONSchemaFormat(TypedDict):
    """The demand for an answer that fits a JSON schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class JSONObjectFormat(TypedDict):
    """The demand for an answer that is any JSON object."""

    type: Literal["json_object"]


# ---- answers


class PromptTokensDetails(TypedDict):
    """Which of a prompt's tokens were of a special kind."""

    cached_tokens: NotRequired[int | None]
    audio_tokens: NotRequired[int]


class CompletionTokensDetails(TypedDict):
    """Which of an answer's tokens were of a special kind."""

    reasoning_tokens: NotRequired[int | None]
    audio_tokens: NotRequired[int]
    accepted_prediction_tokens: NotRequired[int]
    rejected_prediction_tokens: NotRequired[int]


class CompletionUsage(TypedDict, total=False):
    """The token counts of an answer; a count that is not known is left out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class TopLogprob(TypedDict):
    """A token that was possible at one place, with its natural-log probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The token that was chosen at one place, and the most likely tokens there."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(TypedDict):
    """The log-probabilities of a choice's tokens."""

    content: list[TokenLogprob] | None
    refusal: NotRequired[list[TokenLogprob] | None]


class ChoiceFields(TypedDict):
    """What the choices of a whole answer and of a chunk have in common.

    ``token_ids`` and ``stop_reason`` are vLLM's.
    """

    index: int
    finish_reason: str | None
    logprobs: NotRequired[ChoiceLogprobs | None]
    token_ids: NotRequired[list[int]]
    stop_reason: NotRequired[int | str | None]


class CompletionFields(TypedDict):
    """What a chat completion and a chunk have in common; ``prompt_token_ids`` are vLLM's."""

    id: str
    created: NotRequired[int]
    model: str
    service_tier: NotRequired[str]
    system_fingerprint: NotRequired[str]
    prompt_token_ids: NotRequired[list[int] | None]


class ChatCompletionMessage(TypedDict):
    """The message of an answer.

    vLLM names the reasoning ``reasoning``; its older versions and other servers name it
    ``reasoning_content``.
    """

    role: NotRequired[Literal["assistant"]]
    content: str | None
    refusal: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[Sequence[FunctionToolCall | CustomToolCall]]
    annotations: NotRequired[list[JSONObject]]


class ChatCompletionChoice(ChoiceFields):
    """One answer of a chat completion."""

    message: ChatCompletionMessage


class PromptLogprob(TypedDict):
    """The natural-log probability of a token of the prompt, from vLLM."""

    logprob: float
    decoded_token: str | None


class ChatCompletion(CompletionFields):
    """A chat completion: the whole answer to a request.

    ``prompt_logprobs`` are vLLM's: for each token of the prompt, possible tokens by their ids.
    """

    object: NotRequired[Literal["chat.completion"]]
    choices: list[ChatCompletionChoice]
    usage: CompletionUsage
    prompt_logprobs: NotRequired[list[dict[str, PromptLogprob] | None] | None]


# ---- streamed answers


class FunctionCallDelta(TypedDict, total=False):
    """The new parts of a function call."""

    name: str | None
    arguments: str


class FunctionToolCallDelta(TypedDict):
    """A fragment of a tool call; the fragments with the same index form one call."""

    index: int
    id: NotRequired[str | None]
    type: NotRequired[Literal["function"]]
    function: FunctionCallDelta


class CustomCallDelta(TypedDict, total=False):
    """The new parts of a call of a custom tool."""

    name: str
    input: str


class CustomToolCallDelta(TypedDict):
    """A fragment of a call of a custom tool."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["custom"]]
    custom: CustomCallDelta


class MessageDelta(TypedDict, total=False):
    """The new parts of a message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning: str
    reasoning_content: str
    tool_calls: Sequence[FunctionToolCallDelta | CustomToolCallDelta]


class ChunkChoice(ChoiceFields):
    """The new parts of one answer."""

    delta: MessageDelta


class ChatCompletionChunk(CompletionFields):
    """One event of a streamed chat completion."""

    object: NotRequired[Literal["chat.completion.chunk"]]
    choices: list[ChunkChoice]
    usage: NotRequired[CompletionUsage | None]
