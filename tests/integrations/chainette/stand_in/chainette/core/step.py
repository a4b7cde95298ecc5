"""One question to a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from chainette.engine.broker import EngineBroker

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass
class SamplingParams:
    """The parameters that a step may set."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    guided_decoding: Any = None


class Step:
    """Asks an engine one question about every item, and keeps those whose answer parses."""

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - Chainette's own name
        name: str,
        output_model: type[BaseModel],
        engine_name: str,
        sampling: Any,
        input_model: type[BaseModel] | None = None,
        system_prompt: str = "",
        user_prompt: str = "{{input}}",
        yield_output: bool = True,
    ) -> None:
        self.id = id
        self.name = name
        self.output_model = output_model
        self.engine_name = engine_name
        self.sampling = sampling
        self.input_model = input_model
        schema = json.dumps(output_model.model_json_schema())
        self.system_prompt = f"{system_prompt}\n\nAnswer in JSON: {schema}"
        self.user_prompt = user_prompt
        self.yield_output = yield_output

    def execute(
        self,
        inputs: list[Any],
        item_histories: list[dict[str, Any]],
        writer: Any = None,
        debug: bool = False,
        batch_size: int = 0,
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        """The parsed answers, and the history of every item: also of those that did not parse."""
        if len(inputs) != len(item_histories):
            raise ValueError("Mismatch between number of inputs and item_histories")
        if not inputs:
            return [], []
        with EngineBroker.acquire(self.engine_name) as engine:
            raws = engine.generate(
                prompts=[self._messages(history) for history in item_histories],
                output_model=self.output_model,
                sampling_params=self.sampling,
                step_id=self.id,
            )
        outputs, histories = [], []
        for history, raw in zip(item_histories, raws, strict=True):
            after = dict(history)
            try:
                first = raw.outputs[0]
                parsed = self.output_model.model_validate(json.loads(first.text))
            except ValueError as error:
                print(f"Warning: skipping item in step {self.id!r}: {error}")  # noqa: T201
            else:
                outputs.append((history["row_id"], parsed))
                if self.yield_output:
                    after[self.id] = parsed
                if hasattr(first, "reasoning"):
                    after[f"{self.id}_reasoning"] = str(first.reasoning)
            histories.append(after)
        if writer is not None:
            writer.write_step(self.id, outputs)
        return [parsed for _, parsed in outputs], histories

    def _messages(self, history: dict[str, Any]) -> list[dict[str, str]]:
        environment = Environment(undefined=StrictUndefined, autoescape=False)
        return [
            {"role": role, "content": environment.from_string(text).render(history)}
            for role, text in (("system", self.system_prompt), ("user", self.user_prompt))
        ]
