"""What the language models for every DSPy version share: requests, answers and the engine.

`read_request` turns the keyword arguments of DSPy's language models into a `DSPyRequest`, a
`DSPyEngine` sends it, and `chat_body` writes the answers in the shape of OpenAI's chat completions,
which every DSPy version reads. This module does not import DSPy.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import to_json

from llmengine.engine.engine import Engine, EngineConfig
from llmengine.engine.fallback import FallbackEngine
from llmengine.telemetry.usage import total_usage
from llmengine.types.errors import (
    ConfigError,
    InvalidRequestError,
    LLMEngineError,
    StructuredOutputError,
)
from llmengine.types.request import Capability
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import holds_secret
from llmengine.worker import EngineWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from llmengine.engine.options import Options
    from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, Logprob, Usage
    from llmengine.types.request import Prompt
    from llmengine.types.results import Result
    from llmengine.types.wire import (
        ChatCompletion,
        ChatCompletionChoice,
        ChatCompletionMessage,
        CompletionUsage,
        FunctionToolCall,
        TokenLogprob,
        TopLogprob,
    )

    LMSource = Engine | EngineConfig | EngineWorker

T = TypeVar("T")

log = logging.getLogger("llmengine")

# The body of a chat completion, or an object in it, as DSPy and litellm take it.
JSON = dict[str, Any]
NO_KEY = "EMPTY"  # DSPy's clients and OpenAI's SDK do not accept a missing key


def engine_of(source: LMSource, *, num_retries: int | None = None) -> Engine:
    """The engine behind an engine, a configuration or a worker.

    With ``num_retries`` the result is a new client of the same server that retries that often.
    Raises ConfigError for anything else.
    """
    if isinstance(source, EngineWorker):
        source = source.engine
    engine = source.engine if isinstance(source, EngineConfig) else source
    if not isinstance(engine, Engine):
        raise ConfigError(
            f"a language model cannot be made of a {type(source).__name__}; give an engine, "
            "an EngineConfig, or a worker that get_worker() or OpenAICompatibleWorker() gives"
        )
    if isinstance(engine, FallbackEngine):
        raise ConfigError(
            f"engine {engine.name!r} is a fallback, and DSPy's cache could not tell which engine "
            "has answered; make the language model of one of its engines"
        )
    return engine if num_retries is None else _with_retries(engine, num_retries)


def _with_retries(engine: Engine, num_retries: int) -> Engine:
    change: dict[str, object] = {"max_retries": num_retries}
    # The resolved address and key, so that the new client uses the same server.
    if not engine.backend.in_process:
        change["endpoint"] = engine.backend.endpoint
    if engine.api_key:
        change["api_key"] = SecretStr(engine.api_key)
    return engine.config.model_copy(update=change).engine


# ---- requests

_SAMPLING = frozenset(field.name for field in fields(SamplingParams)) - {"logprobs"}
_OPTIONS = frozenset({"output_model", "tools", "tool_choice", "extra_body"})
# OpenAI's fields for which engines have no option: they go into the body as they are.
_BODY = frozenset({"metadata", "parallel_tool_calls", "service_tier", "store", "user"})
# Arguments with which DSPy manages its own answers; they are not sent to the server.
_DSPYS_OWN = frozenset({"cache", "model", "model_type", "num_generations", "rollout_id"})
_RENAMED = {"max_completion_tokens": "max_tokens", "reasoning_effort": "reasoning"}


@dataclass(frozen=True, slots=True)
class DSPyRequest:
    """One prompt with all arguments for a call of the engine; ``count`` answers are wanted."""

    prompt: Prompt
    sampling: SamplingParams
    options: Options
    count: int = 1


def read_request(prompt: Prompt, arguments: Mapping[str, object]) -> DSPyRequest:
    """Turn a language model's keyword arguments, in OpenAI's spelling, into a request.

    Raises InvalidRequestError that names an argument which an engine does not have.
    """
    sampling: dict[str, object] = {}
    options: dict[str, Any] = {}
    body: dict[str, object] = {}
    for name, value in arguments.items():
        ours = _RENAMED.get(name, name)
        if value is None or ours in _DSPYS_OWN:
            continue
        if ours in _SAMPLING:
            sampling[ours] = value
        elif ours in _OPTIONS or ours == "reasoning":
            options[ours] = value
        elif ours in _BODY:
            body[ours] = value
        elif ours not in {"response_format", "logprobs", "top_logprobs"}:
            raise InvalidRequestError(
                f"{name!r} is not a parameter of an engine's language model; to send a parameter "
                f"of the server, write extra_body={{{name!r}: ...}}"
            )
    sampling |= _logprobs(arguments)
    options |= _format_options(arguments.get("response_format"))
    if body:
        options["extra_body"] = body | dict(options.get("extra_body") or {})
    params = SamplingParams.of(sampling)
    return DSPyRequest(prompt, params, options, params.n or 1)  # type: ignore[arg-type]  # by name


def _logprobs(arguments: Mapping[str, object]) -> dict[str, object]:
    """Merge the two fields of chat completions, or the number of alternatives, into one number."""
    logprobs, top = arguments.get("logprobs"), arguments.get("top_logprobs")
    if logprobs is None or logprobs is False:
        return {}
    return {"logprobs": top or 0 if logprobs is True else logprobs}


def _format_options(response_format: object) -> dict[str, object]:
    if response_format is None:
        return {}
    if isinstance(response_format, type):
        return {"output_model": response_format}
    given = response_format if isinstance(response_format, Mapping) else {}
    kind = given.get("type")
    if kind == "json_object":
        return {"json_mode": True}
    if kind == "json_schema":
        return {"output_model": given.get("json_schema", given)["schema"]}
    if kind == "text":
        return {}
    raise InvalidRequestError(
        f"response_format is {response_format!r}; give a pydantic model, "
        "{'type': 'json_object'}, or "
        "{'type': 'json_schema', 'json_schema': {'name': ..., 'schema': ...}}"
    )


# TypedPredictor writes this before the schema, at the end of a field's description.
_SCHEMA_LABEL = "JSON Schema: "
_END_OF_GUIDELINES = "---"


def schema_in_prompt(prompt: str) -> JSON | None:
    """The schema of the field that the prompt ends with; None if that field may be any text.

    DSPy 2.4 passes a schema only in the prompt. The model completes the prompt, so the answer is a
    single JSON object only if the last line of the prompt opens the last field and the guidelines
    give that field a schema.
    """
    opening = prompt.rstrip().rpartition("\n")[2]
    _, found, description = prompt.partition(f"\n{opening} ")
    if not found or not opening.endswith(":"):
        return None
    text = description.partition(_SCHEMA_LABEL)[2].removeprefix("```json").lstrip()
    try:
        schema, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None  # a field without a schema
    is_last = text[end:].lstrip("\n`").startswith(_END_OF_GUIDELINES)
    return schema if is_last and isinstance(schema, dict) else None


# ---- the engine

# Fields of a configuration that change the answer to the same prompt.
_ANSWER_FIELDS = frozenset({"sampling", "extra_body", "reasoning", "structured", "options"})
_SECRET_FIELDS = frozenset({"api_key", "headers"})
# Fields that are saved, but with the keys in them masked.
_MASKED_FIELDS = ("endpoint", "extra_body", "options")


class DSPyEngine:
    """Sends requests to one engine; every copy of a language model shares the same object.

    DSPy's optimizers copy a program many times, but the engine with its connections, or with the
    server of a mock, must not be copied.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def identity(self) -> str:
        """The model, its server, and a digest of all other settings that change the answers.

        DSPy's caches use the model's name as key and ignore the address, so this name keeps the
        answers of two servers apart.
        """
        if self.engine.backend.in_process:
            server = self.engine.backend.name
        else:
            server = urlsplit(self.engine.root_url).netloc.rpartition("@")[2]
        dumped = self.engine.config.model_dump(include=set(_ANSWER_FIELDS), exclude_defaults=True)
        settings = {name: value for name, value in dumped.items() if value != {}}
        digest = f"#{hashlib.sha256(to_json(settings)).hexdigest()[:8]}" if settings else ""
        return f"{self.engine.model}@{server}{digest}"

    def generate(self, request: DSPyRequest) -> LLMOutput:
        """Return the answers; raises CallError, or InvalidRequestError before anything is sent."""
        prompts, sampling = self._prompts(request)
        return _joined(self.engine.results(prompts, sampling, **request.options))

    async def agenerate(self, request: DSPyRequest) -> LLMOutput:
        """`generate` for a running event loop."""
        prompts, sampling = self._prompts(request)
        return _joined(await self.engine.aresults(prompts, sampling, **request.options))

    def stream(self, request: DSPyRequest) -> Iterator[Delta]:
        """Stream the answer; an answer that does not fit its schema ends without an error."""
        try:
            yield from self.engine.stream(request.prompt, request.sampling, **request.options)
        except StructuredOutputError:
            return  # DSPy has the whole text by now, and its parser reports the problem

    async def astream(self, request: DSPyRequest) -> AsyncIterator[Delta]:
        """`stream` for a running event loop."""
        deltas = self.engine.astream(request.prompt, request.sampling, **request.options)
        try:
            async for delta in deltas:
                yield delta
        except StructuredOutputError:
            return  # as above

    def _prompts(self, request: DSPyRequest) -> tuple[list[Prompt], SamplingParams]:
        """One prompt with ``n``, or ``n`` equal prompts if the server does not support ``n``."""
        if request.count == 1 or Capability.N in self.engine.backend.capabilities:
            return [request.prompt], request.sampling
        return [request.prompt] * request.count, replace(request.sampling, n=None)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def dump(self) -> JSON:
        """The configuration as JSON values, without the fields that may hold a secret."""
        config = self.engine.config
        held = {name for name in _SECRET_FIELDS if getattr(config, name)}
        held |= {
            f"keys in {name}" for name in _MASKED_FIELDS if holds_secret(getattr(config, name))
        }
        if held:
            log.warning("engine %r: saved without its %s", config.name, " and ".join(sorted(held)))
        return config.model_dump(mode="json", exclude=set(_SECRET_FIELDS), exclude_defaults=True)

    @classmethod
    def load(cls, state: JSON) -> Self:
        """Make one from a dumped configuration; the key must come from ``api_key_env``."""
        return cls(EngineConfig(**state).engine)


def _joined(results: list[Result]) -> LLMOutput:
    """Join the answers to equal prompts into one output, with the tokens of every attempt."""
    outputs = [_output_of(result) for result in results]
    answers = [answer for output in outputs for answer in output.outputs]
    numbered = tuple(replace(answer, index=index) for index, answer in enumerate(answers))
    usage = total_usage(result.usage for result in results)
    return replace(outputs[0], outputs=numbered, usage=usage)


def _output_of(result: Result) -> LLMOutput:
    """The output, even if it does not fit its schema, because DSPy's parser reports that itself."""
    error = result.error
    if isinstance(error, StructuredOutputError) and error.partial is not None:
        return error.partial
    output = result.unwrap()
    if output.schema_strategy in {None, "json_schema"}:
        return output
    # If the server does not enforce the schema, there may be prose or a fence around the JSON.
    return replace(
        output,
        outputs=tuple(replace(a, text=to_json(a.parsed).decode()) for a in output.outputs),
    )


# ---- answers and errors


def chat_body(output: LLMOutput, *, model: str) -> ChatCompletion:
    """The output as the body of a chat completion; ``model`` is used if the output names none."""
    return {
        "id": output.request_id or "chatcmpl-llmengine",
        "object": "chat.completion",
        "created": 0,
        "model": output.model or model,
        "choices": [_choice(answer) for answer in output.outputs],
        "usage": usage_body(output.usage),
    }


def _choice(answer: CompletionOutput) -> ChatCompletionChoice:
    message: ChatCompletionMessage = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            tool_call_body(c.id, c.name, c.arguments) for c in answer.tool_calls
        ]
    elif message["content"] is None:
        message["content"] = ""
    choice: ChatCompletionChoice = {
        "index": answer.index,
        "message": message,
        "finish_reason": finish_reason_of(answer.finish_reason),
    }
    if answer.logprobs is not None:
        choice["logprobs"] = {"content": [_token_logprob(t) for t in answer.logprobs]}
    return choice


def tool_call_body(call_id: str, name: str, arguments: str) -> FunctionToolCall:
    """A tool call in the shape of chat completions."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _token_logprob(token: Logprob) -> TokenLogprob:
    return {**_logprob(token), "top_logprobs": [_logprob(t) for t in token.top]}


def _logprob(token: Logprob) -> TopLogprob:
    encoded = None if token.bytes is None else list(token.bytes)
    return {"token": token.token, "logprob": token.logprob, "bytes": encoded}


def usage_body(usage: Usage | None) -> CompletionUsage:
    """The known token counts under OpenAI's names."""
    if usage is None:
        return {}
    known: CompletionUsage = {}
    if usage.prompt_tokens is not None:
        known["prompt_tokens"] = usage.prompt_tokens
    if usage.completion_tokens is not None:
        known["completion_tokens"] = usage.completion_tokens
    if usage.total_tokens is not None:
        known["total_tokens"] = usage.total_tokens
    if usage.cached_tokens is not None:
        known["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        known["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return known


def finish_reason_of(reason: str | None) -> str:
    """The finish reason under the name that chat completions have for it."""
    return "content_filter" if reason == "refusal" else reason or "stop"


def warn_if_cut(engine: str, finish_reasons: Iterable[str | None], limit: int | None) -> None:
    """Log one warning if any of the answers ended at the token limit.

    Some DSPy versions do not log a warning themselves.
    """
    if "length" in finish_reasons:
        at = "its limit" if limit is None else f"{limit} tokens"
        log.warning("%s: an answer was cut at %s; raise max_tokens", engine, at)


def error_class(error: LLMEngineError, classes: Mapping[type[LLMEngineError], T]) -> T | None:
    """The class in the table for the error's own class, or else for its nearest base class."""
    return next((classes[base] for base in type(error).__mro__ if base in classes), None)
