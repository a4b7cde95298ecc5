"""Mutants of dspy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import (
    answer,
    crashes_on,
    forgets,
    mixing_up,
    put,
    refusing,
    without,
)
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook

CONTENT = ("choices", 0, "message", "content")


def _silent(choice: JSON) -> None:
    choice["message"]["content"], choice["finish_reason"] = None, "stop"


SILENT = Behaviour("content is null", reply=answer(_silent))
CHOICELESS = Behaviour("no choices", reply=put([], "choices"))


def _one_answer_a_prompt() -> Hook:
    """A hook that gives each prompt one choice, and no choice if it is asked again."""
    answered: set[str] = set()

    def hook(body: JSON, call: ReceivedRequest) -> JSON:
        prompt = str(call.json["messages"])
        body["choices"] = [] if prompt in answered else body["choices"][:1]
        answered.add(prompt)
        return body

    return hook


def _has_assistant(body: JSON) -> bool:
    return any(message["role"] == "assistant" for message in body.get("messages", []))


def _cut_to_fit(body: JSON, call: ReceivedRequest) -> JSON:
    messages = [m | {"content": m["content"][-1000:]} for m in body.get("messages", [])]
    return {**body, "messages": messages}


def _without_words(body: JSON, call: ReceivedRequest) -> JSON:
    error = {"message": "bad request", "type": "invalid_request_error"}
    return {"error": {**error, "param": None, "code": None}}


for name in ("dspy.predict", "dspy.chain_of_thought", "dspy.async"):
    mutant(name, SILENT)
    mutant(name, CHOICELESS)

mutant("dspy.predict", Behaviour("crashes", wire=crashes_on(b"[[ ## answer ## ]]")))
mutant("dspy.predict", Behaviour("answers are empty", reply=put("", *CONTENT)))
mutant("dspy.predict", Behaviour("no assistant turns", request=refusing(_has_assistant)))
mutant("dspy.n", Behaviour("one answer", reply=_one_answer_a_prompt()))
mutant("dspy.n", SILENT)
mutant("dspy.usage", Behaviour("no usage", reply=without("usage")))
mutant("dspy.usage", Behaviour("a wrong sum", reply=put(1, "usage", "total_tokens")))
mutant("dspy.usage", Behaviour("nothing read", reply=put(0, "usage", "prompt_tokens")))
mutant(
    "dspy.max_tokens",
    Behaviour("both ignored", request=forgets("max_tokens", "max_completion_tokens")),
)
mutant("dspy.async", Behaviour("mixes answers up", reply=mixing_up(after=1)))
mutant("dspy.context_window", Behaviour("cut to fit", request=_cut_to_fit))
mutant("dspy.context_window", Behaviour("does not say why", error=_without_words))
