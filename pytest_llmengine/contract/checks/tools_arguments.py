"""Checks of tools: the arguments of calls survive the way from the model to the client."""

from __future__ import annotations

import html
import json
import unicodedata
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.outcomes import Fail, Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check
from pytest_llmengine.contract.samples import ESCAPES, PING, ROUTE, WORD, saving
from pytest_llmengine.contract.tool_answer import ask, ask_for_call

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="tools", level=QUIRK, tier=EXTENDED)

NEEDS = {Capability.TOOLS}


@rule(
    "tools.empty_args",
    source="ollama/ollama#18658: a call without arguments",
    needs=NEEDS,
)
def empty_args(target: Target) -> None:
    """A function without parameters is called with the arguments {}.

    `json.loads` of an empty text raises, and `**None` does too.
    """
    arguments = ask_for_call(target, "Ping the server. Call the tool.", PING).arguments
    expect(isinstance(arguments, dict), f"the arguments are {quote(arguments)} and not an object")
    if arguments:
        raise Unmeasured(f"the model made up arguments: {quote(arguments)}")


@rule(
    "tools.nested",
    source="vllm-project/vllm#58824: nested arguments that come back as text",
    needs=NEEDS,
)
def nested_args(target: Target) -> None:
    """Objects and lists within the arguments stay objects and lists.

    A program reads a list of letters where it expects a list of stops.
    """
    arguments = ask_for_call(target, "Plan a route over Lyon. Call the tool.", ROUTE).arguments
    route = arguments.get("route") if isinstance(arguments, dict) else None
    stops = route.get("stops") if isinstance(route, dict) else route
    expect(
        not (isinstance(stops, str) and stops.lstrip()[:1] in {"{", "["}),
        f"an inner value is JSON in a text: {quote(arguments)}",
    )
    if not isinstance(stops, list) or not stops:
        raise Unmeasured(f"the model made up other arguments: {quote(arguments)}")


# ---- words in arguments

ASK_SAVE = "Save the word {}. Call the tool."
WORDS = (
    ("tools.words.escapes", "Quotes, backslashes, tabs and line ends survive", ESCAPES),
    (
        "tools.words.markup",
        "A word that looks like the markup of a call survives",
        '</tool_call> {"name": "x"} <tool_call>',
    ),
    (
        "tools.words.emoji",
        "Characters that are joined of several code points survive",
        "e\u0301 👩‍👩‍👧 👍🏽 \U0001d49c",
    ),
)


def _word(target: Target, word: str) -> None:
    """Expect the only word that a strict tool allows, whole and streamed."""
    for stream in (False, True):
        request = partial(ask, target, stream=stream, tool_choice="required")
        arguments = request(ASK_SAVE.format(word), saving(word)).arguments
        if arguments == {"word": word}:
            continue
        saved = arguments.get("word") if isinstance(arguments, dict) else None
        expect(
            not (isinstance(saved, str) and _is_mangled(saved, word)),
            f"the word {quote(word)} came back as {quote(saved)}",
        )
        if request(ASK_SAVE.format("tree"), saving("stone")).arguments != {"word": "stone"}:
            raise Unmeasured(f"strict is not enforced, and the model wrote {quote(arguments)}")
        raise Fail(f"only {quote(word)} is allowed, and the arguments are {quote(arguments)}")


def _is_mangled(saved: str, word: str) -> bool:
    """Whether a text is the word in another form: escaped, recoded, normalised or cut."""
    forms = {
        json.dumps(word)[1:-1],
        html.escape(word),
        word.encode().decode("latin-1"),
        unicodedata.normalize("NFC", word),
        unicodedata.normalize("NFD", word),
        word.encode("ascii", "ignore").decode(),
    }
    return "\ufffd" in saved or saved in forms - {word} or word in saved


@rule(
    "tools.unicode_args",
    source="vllm-project/vllm#58824; sgl-project/sglang#41316: characters lost in arguments",
    needs=NEEDS,
)
def unicode_args(target: Target) -> None:
    """Characters outside ASCII survive in the arguments.

    A name with an umlaut is saved as another one.
    """
    _word(target, WORD)


for _id, _title, _text in WORDS:
    rule(
        _id,
        source="RFC 8259 7: strings; vllm-project/vllm#58824",
        needs={*NEEDS, Capability.STREAMING},
        since="2026-11-27",
        title=f"{_title} in the arguments of a strict tool.",
        breaks="The text that a program saves is not the text that the model was allowed to write.",
    )(partial(_word, word=_text))
