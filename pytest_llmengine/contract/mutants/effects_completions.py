"""Mutants of effects.completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, chunks, events, forgets, in_streams, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

BOTH = (
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "max_tokens",
    "stop",
    "n",
    "echo",
    "suffix",
    "logprobs",
)
WHOLE = {"n_per_prompt": "n", "best_of": "best_of", "user": "user"}


def _add(rule: str, behaviour: Behaviour) -> None:
    mutant(f"effects.completions.{rule}", behaviour)


for field in BOTH:
    _add(field, Behaviour(f"{field} dropped", request=forgets(field)))
    _add(f"stream_{field}", Behaviour(f"{field} dropped", request=in_streams(forgets(field))))
for rule, field in WHOLE.items():
    _add(rule, Behaviour(f"{field} dropped", request=forgets(field)))


def _chat_shape(reply: JSON) -> None:
    for choice in reply["choices"]:
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -1, "top_logprobs": []}]}


def _shorter(reply: JSON) -> None:
    reply["choices"][0]["text"] = reply["choices"][0]["text"][:-1]


def _in_template(request: JSON) -> None:
    if isinstance(request.get("prompt"), str):
        request["prompt"] = f"<|user|>{request['prompt']}<|assistant|>"


def _reversed(request: JSON) -> None:
    if isinstance(request.get("prompt"), list):
        request["prompt"].reverse()


_add("user", Behaviour("user dropped in streams", request=in_streams(forgets("user"))))
_add("logprobs", Behaviour("chat's shape", reply=body(_chat_shape)))
_add("logprobs", Behaviour("one alternative", request=put(1, "logprobs")))
_add(
    "default_max_tokens",
    Behaviour("no limit", request=body(lambda request: request.setdefault("max_tokens", 64))),
)
_add("include_obfuscation", Behaviour("dropped", request=forgets("stream_options")))
_add("stream_text", Behaviour("the first texts lost", events=events(lambda found: found[2:])))
_add("logprobs", Behaviour("another text", reply=body(_shorter)))
_add("raw_prompt", Behaviour("a chat template", request=body(_in_template)))
_add("own_prompt", Behaviour("reversed", request=body(_reversed)))


def _in_ascii(choices: JSON) -> None:
    for choice in choices["choices"]:
        choice["text"] = choice["text"].encode("ascii", "ignore").decode()


for _rule in ("echo_beyond_ascii", "stream_echo_beyond_ascii"):
    _add(_rule, Behaviour("echo dropped", request=forgets("echo")))
    _add(_rule, Behaviour("ASCII", reply=body(_in_ascii), events=chunks(_in_ascii)))
