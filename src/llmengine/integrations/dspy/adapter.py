"""What the language models for every DSPy version share: requests, answers and the engine.

Keyword arguments of DSPy's language models become a `DSPyRequest`, a `DSPyEngine` asks the engine,
and `chat_body` writes the answers in the shape of OpenAI's chat completions, which every DSPy
version reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import to_json

from llmengine.engine.engine import Engine, EngineConfig
from llmengine.telemetry.usage import total_usage
from llmengine.types.errors import ConfigError, InvalidRequestError, StructuredOutputError
from llmengine.types.request import Capability
from llmengine.types.sampling import SamplingParams
from llmengine.types.secrets import holds_secret
from llmengine.worker import EngineWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from llmengine.engine.options import Options
    from llmengine.types.outputs import (
        CompletionOutput,
        Delta,
        LLMOutput,
        Logprob,
        ToolCall,
        Usage,
    )
    from llmengine.types.request import Prompt
    from llmengine.types.results import Result

    LMSource = Engine | EngineConfig | EngineWorker


log = logging.getLogger("llmengine")


def warn_if_cut(engine: str, finish_reasons: Iterable[str | None], limit: int | None) -> None:
    """Log one warning if any of the answers ended at the token limit.

    Some DSPy versions do not warn of this themselves.
    """
    if "length" in finish_reasons:
        at = "its limit" if limit is None else f"{limit} tokens"
        log.warning("%s: an answer was cut at %s; raise max_tokens", engine, at)


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
    return engine if num_retries is None else _retrying(engine, num_retries)


def _retrying(engine: Engine, num_retries: int) -> Engine:
    change: dict[str, Any] = {"max_retries": num_retries}
    # The resolved address and key, so that the new client uses the same server.
    if not engine.backend.in_process:
        change["endpoint"] = engine.backend.endpoint
    if engine.api_key:
        change["api_key"] = SecretStr(engine.api_key)
    return engine.config.model_copy(update=change).engine


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


def read_question(prompt: Prompt, arguments: Mapping[str, Any]) -> DSPyRequest:
    """Turn a language model's keyword arguments, in OpenAI's spelling, into a request.

    Raises InvalidRequestError that names an argument that has no meaning here.
    """
    sampling: dict[str, Any] = {}
    options: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for name, value in arguments.items():
        place = _RENAMED.get(name, name)
        if value is None or place in _DSPYS_OWN:
            continue
        if place in _SAMPLING:
            sampling[place] = value
        elif place in _OPTIONS or place == "reasoning":
            options[place] = value
        elif place in _BODY:
            body[place] = value
        elif place not in {"response_format", "logprobs", "top_logprobs"}:
            raise InvalidRequestError(
                f"{name!r} is no parameter of an engine's language model; what a server calls so "
                f"goes into extra_body={{{name!r}: ...}}"
            )
    sampling |= _logprobs(arguments)
    options |= _format(arguments.get("response_format"))
    if body:
        options["extra_body"] = body | dict(options.get("extra_body") or {})
    count = sampling.get("n") or 1
    return DSPyRequest(prompt, SamplingParams.of(sampling), options, count)  # type: ignore[arg-type]  # by name


def _logprobs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the two fields of chat completions, or the number of alternatives, into one number."""
    asked, top = arguments.get("logprobs"), arguments.get("top_logprobs")
    if asked is None or asked is False:
        return {}
    return {"logprobs": top or 0 if asked is True else asked}


def _format(wanted: Any) -> dict[str, Any]:
    if wanted is None:
        return {}
    if isinstance(wanted, type):
        return {"output_model": wanted}
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_object":
        return {"json_mode": True}
    if kind == "json_schema":
        return {"output_model": wanted.get("json_schema", wanted)["schema"]}
    if kind == "text":
        return {}
    raise InvalidRequestError(
        f"response_format is {wanted!r}; give a pydantic model, {{'type': 'json_object'}}, or "
        "{'type': 'json_schema', 'json_schema': {'name': ..., 'schema': ...}}"
    )


_FINISH = {"refusal": "content_filter"}


def chat_body(output: LLMOutput, *, model: str) -> dict[str, Any]:
    """The output as the body of a chat completion; ``model`` is used if the output names none."""
    return {
        "id": output.request_id or "chatcmpl-llmengine",
        "object": "chat.completion",
        "created": 0,
        "model": output.model or model,
        "choices": [_choice(answer) for answer in output.outputs],
        "usage": usage_body(output.usage),
    }


def usage_body(usage: Usage | None) -> dict[str, Any]:
    """The known token counts under OpenAI's names."""
    if usage is None:
        return {}
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    known: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
    if usage.cached_tokens is not None:
        known["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        known["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return known


def finish_of(reason: str | None) -> str:
    """The finish reason in the vocabulary of chat completions."""
    return _FINISH.get(reason or "stop", reason or "stop")


def _choice(answer: CompletionOutput) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    elif message["content"] is None:
        message["content"] = ""
    choice = {
        "index": answer.index,
        "message": message,
        "finish_reason": finish_of(answer.finish_reason),
    }
    if answer.logprobs is not None:
        choice["logprobs"] = {"content": [_logprob(token) for token in answer.logprobs]}
    return choice


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprob(token: Logprob) -> dict[str, Any]:
    return {**_alone(token), "top_logprobs": [_alone(other) for other in token.top]}


def _alone(token: Logprob) -> dict[str, Any]:
    spelled = None if token.bytes is None else list(token.bytes)
    return {"token": token.token, "logprob": token.logprob, "bytes": spelled}


# Fields of a configuration that change the answer to the same prompt.
_TELLING = frozenset({"sampling", "extra_body", "reasoning", "structured", "options"})
_SECRET = frozenset({"api_key", "headers"})
# Fields that are saved, but with the keys in them masked.
_MASKED = ("endpoint", "extra_body", "options")


class DSPyEngine:
    """Asks one engine; every copy of a language model shares the same object.

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
            where = self.engine.backend.name
        else:
            where = urlsplit(self.engine.root_url).netloc.rpartition("@")[2]
        told = self.engine.config.model_dump(include=set(_TELLING), exclude_defaults=True)
        changed = {name: value for name, value in told.items() if value != {}}
        mark = f"#{hashlib.sha256(to_json(changed)).hexdigest()[:8]}" if changed else ""
        return f"{self.engine.model}@{where}{mark}"

    def ask(self, question: DSPyRequest) -> LLMOutput:
        """Return the answers; raises CallError, or InvalidRequestError before anything is sent."""
        prompts, sampling = self._spread(question)
        return _joined(self.engine.results(prompts, sampling, **question.options))

    async def aask(self, question: DSPyRequest) -> LLMOutput:
        """`ask` for a running event loop."""
        prompts, sampling = self._spread(question)
        return _joined(await self.engine.aresults(prompts, sampling, **question.options))

    def stream(self, question: DSPyRequest) -> Iterator[Delta]:
        """Stream the answer; one that does not fit its schema ends without an error."""
        try:
            yield from self.engine.stream(question.prompt, question.sampling, **question.options)
        except StructuredOutputError:
            return  # DSPy has the whole text by now, and its parser reports the problem

    async def astream(self, question: DSPyRequest) -> AsyncIterator[Delta]:
        """`stream` for a running event loop."""
        deltas = self.engine.astream(question.prompt, question.sampling, **question.options)
        try:
            async for delta in deltas:
                yield delta
        except StructuredOutputError:
            return  # as above

    def _spread(self, question: DSPyRequest) -> tuple[list[Prompt], Any]:
        """One prompt with ``n``, or ``n`` equal prompts if the server does not support ``n``."""
        if question.count == 1 or Capability.N in self.engine.backend.capabilities:
            return [question.prompt], question.sampling
        return [question.prompt] * question.count, replace(question.sampling, n=None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def dump(self) -> dict[str, Any]:
        """The configuration as JSON values, without the fields that may hold a secret."""
        config = self.engine.config
        held = {name for name in _SECRET if getattr(config, name)}
        held |= {f"keys in {name}" for name in _MASKED if holds_secret(getattr(config, name))}
        if held:
            log.warning("engine %r: saved without its %s", config.name, " and ".join(sorted(held)))
        return config.model_dump(mode="json", exclude=set(_SECRET), exclude_defaults=True)

    @classmethod
    def load(cls, state: dict[str, Any]) -> Self:
        """Make one from a dumped configuration; the key must come from ``api_key_env``."""
        return cls(EngineConfig(**state).engine)


def _joined(results: list[Result]) -> LLMOutput:
    """Join the answers to equal prompts into one output, with the tokens of every attempt."""
    outputs = [_settled(result) for result in results]
    answers = [answer for output in outputs for answer in output.outputs]
    numbered = tuple(replace(answer, index=place) for place, answer in enumerate(answers))
    usage = total_usage(result.usage for result in results)
    return replace(outputs[0], outputs=numbered, usage=usage)


def _settled(result: Result) -> LLMOutput:
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


# TypedPredictor writes this before the schema, at the end of a field's description.
_MARK = "JSON Schema: "
_END = "---"  # the line after the guidelines


def asked_schema(prompt: str) -> dict[str, Any] | None:
    """The schema of the field that the prompt ends with; None if that field may be any text.

    DSPy 2.4 passes a schema only in the prompt. The model completes the prompt, so the answer is a
    single JSON object only if the last line of the prompt opens the last field and the guidelines
    give that field a schema.
    """
    opening = prompt.rstrip().rpartition("\n")[2]
    _, found, described = prompt.partition(f"\n{opening} ")
    if not found or not opening.endswith(":"):
        return None
    text = described.partition(_MARK)[2].removeprefix("```json").lstrip()
    try:
        schema, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None  # a field without a schema
    is_last = text[end:].lstrip("\n`").startswith(_END)
    return schema if is_last and isinstance(schema, dict) else None
