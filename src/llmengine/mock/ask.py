"""A question to the mock, free of any wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmengine.mock.text import tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.mock.answers import Turn


def _header(role: str) -> tuple[str, str, str]:
    """The tokens before a turn."""
    return "<|", role, "|>"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question with all that changes its answer.

    ``schema`` is the JSON schema that the text must fit, or with ``plain`` the schema of a string
    that the text is. ``tool_choice`` is ``none``, ``auto``,
    ``required``, or with ``named`` the name of a tool. ``template`` is whether a chat template
    adds its own tokens to the prompt. ``extra`` is anything more that the answer hangs on.
    """

    turns: tuple[Turn, ...]
    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    named: bool = False
    parallel: bool = True
    schema: Any = None
    plain: bool = False
    reasoning: bool = False
    logit_bias: Mapping[str, Any] = field(default_factory=dict)
    extra: str = ""
    template: bool = True

    @property
    def pieces(self) -> tuple[str, ...]:
        """The tokens of the conversation and of the tools, with what a chat template adds."""
        if not self.template:
            return tuple(token for turn in self.turns for token in tokenize(turn.text))
        tools = (
            p for t in self.tools for s in (t.name, json.dumps(t.parameters)) for p in tokenize(s)
        )
        turns = (p for t in self.turns for p in (*_header(t.role), *tokenize(t.text)))
        return (*tools, *turns, *_header("assistant"))

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.pieces)

    def fingerprint(self, index: int) -> str:
        """What the answer hangs on: at temperature 0 neither the seed nor the choice's index."""
        chance = (self.seed, index) if self.temperature > 0 else ()
        turns = [(t.role, t.text) for t in self.turns]
        return json.dumps([turns, chance, self.logit_bias, self.extra])
