"""The language models for DSPy 2.4: over an engine, and DSPy's own client for a server."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Self

import dspy
import openai

from llmengine.integrations.dspy.adapter import (
    DSPyEngine,
    asked_schema,
    chat_body,
    engine_of,
    read_question,
    warn_if_cut,
)
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.integrations.dspy.adapter import LMSource


_NO_KEY = "EMPTY"  # the SDK does not accept a missing key
_HEADER = "X-LLMEngine-Server"


class NativeOpenAI(dspy.OpenAI):  # type: ignore[misc]  # dspy has no types
    """``dspy.OpenAI`` that asks only its own server.

    ``dspy.OpenAI`` sets the address for the whole process, so the instance that was made last
    decides which server all of them ask. This class raises an error instead of asking another
    server. DSPy's cache ignores the address but not the headers, so the address is also sent in a
    header.
    """

    def __init__(self, engine: Engine, **arguments: Any) -> None:
        # Without the slash the SDK would replace the last part of the path.
        self.address = f"{engine.base_url}/"
        headers = {_HEADER: engine.root_url} | arguments.pop("extra_headers", {})
        super().__init__(
            engine.model,
            api_key=engine.api_key or _NO_KEY,
            api_base=self.address,
            model_type="chat",
            extra_headers=headers,
            **arguments,
        )

    def basic_request(self, prompt: str, **kwargs: Any) -> Any:
        """Ask the server; raises ConfigError if the process now uses another one."""
        if str(openai.base_url) != self.address:
            raise ConfigError(
                f"another dspy.OpenAI has turned this process to {openai.base_url}, so that this "
                f"one would not ask {self.address}; DSPy 2.4 keeps one address a process: use "
                "to_lm(), which keeps its own"
            )
        return super().basic_request(prompt, **kwargs)

    def copy(self, **kwargs: Any) -> Self:
        """A copy with other parameters for the same server."""
        twin = copy(self)
        twin.kwargs = self.kwargs | kwargs
        twin.history = []
        return twin

    def __json__(self) -> str:
        """`module.save` writes nothing, so that a loaded program uses the LM in the settings."""
        return "null"


# Enough for a typed answer; the default of DSPy 2.4, 150, cuts most of them.
_MAX_TOKENS = 1000


class LegacyLM(dspy.LM):  # type: ignore[misc]  # dspy has no types
    """A ``dspy.LM`` for DSPy 2.4 whose calls go to an engine.

    A prompt goes in and a list of texts comes out. If a TypedPredictor asks for one JSON object,
    the server has to follow its schema. ``output_model`` sets a schema for every answer. Errors are
    those of llmengine, because this DSPy has none of its own.
    """

    def __init__(self, asker: DSPyEngine, *, output_model: Any = None, **arguments: Any) -> None:
        super().__init__(asker.engine.model)
        self.asker = asker
        self.output_model = output_model
        # Predict reads the temperature and dsp.generate reads the token limit, so both must be set.
        defaults = {"temperature": 0.0, "max_tokens": _MAX_TOKENS, "n": 1}
        configured = asker.engine.config.sampling.given()
        self.kwargs = {"model": asker.engine.model} | defaults | configured | arguments

    def __call__(
        self,
        prompt: str,
        only_completed: bool = True,  # noqa: ARG002 - the interface of 2.4
        return_sorted: bool = False,  # noqa: ARG002 - the interface of 2.4
        **kwargs: Any,
    ) -> list[str]:
        """Return the texts of the answers; raises llmengine's CallError."""
        choices = self.request(prompt, **kwargs)["choices"]
        limit = kwargs.get("max_tokens", self.kwargs["max_tokens"])
        warn_if_cut(self.asker.engine.name, [c["finish_reason"] for c in choices], limit)
        return [choice["text"] for choice in choices]

    def basic_request(self, prompt: str, **kwargs: Any) -> dict[str, Any]:
        """Ask the engine and add the call to the history."""
        asked = self.kwargs | kwargs
        question = read_question(prompt, self._with_model(prompt, asked))
        body = chat_body(self.asker.ask(question), model=self.asker.engine.model)
        for choice in body["choices"]:
            choice["text"] = choice["message"]["content"] or ""  # inspect_history reads this key
        entry = {"prompt": prompt, "response": body, "kwargs": asked, "raw_kwargs": kwargs}
        self.history.append(entry)
        return body

    def copy(self, **kwargs: Any) -> Self:
        """A copy with other parameters and the same engine."""
        twin = copy(self)
        twin.kwargs = self.kwargs | kwargs
        twin.history = []
        return twin

    def _with_model(self, prompt: str, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("output_model") or self.output_model:
            return {"output_model": self.output_model} | asked
        schema = asked_schema(prompt)
        return asked if schema is None else asked | {"output_model": schema}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __json__(self) -> str:
        """`module.save` writes nothing, so that a loaded program uses the LM in the settings."""
        return "null"


class DSPyLLMWrapper(LegacyLM):
    """The language model over a worker, an engine or a configuration."""

    def __init__(self, worker: LMSource, **arguments: Any) -> None:
        super().__init__(DSPyEngine(engine_of(worker)), **arguments)
        self.worker = worker


make = LegacyLM
