"""Where to stop an answer whose words nobody knows before it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect
from pytest_llmengine.contract.quote import quote
from pytest_llmengine.contract.reading.chat import answered, content

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

PROMPT = "Write a sentence about the sea."
_CAP = 24
_MIN_WORDS = 4


@dataclass(frozen=True, slots=True)
class Stopping:
    """An answer, and a word from its middle that is in no earlier place."""

    answer: str
    word: str

    @property
    def before(self) -> str:
        """What is left of the answer when it stops at the word."""
        return self.answer[: self.answer.index(self.word)]

    def stop(self, target: Target, stop: str | list[str]) -> dict[str, Any]:
        """Ask again with stop sequences that hold the word; expect the text up to it.

        A text that goes past the word is ignored; one that goes another way is unmeasured.
        """
        body = target.chat(PROMPT, max_tokens=_CAP, stop=stop).success()
        text = content(body)
        expect_effect(self.word not in text, f"stop={quote(stop)}, yet the text is {text!r}")
        if not self.answer.startswith(text.rstrip()):
            raise Unmeasured("the server answers differently each time, also at temperature 0")
        expect(
            text.rstrip() == self.before.rstrip(),
            f"stop={quote(stop)}: the text is {text!r} instead of {self.before!r}",
        )
        return body


def find_stop(target: Target) -> Stopping:
    """A plain answer and a word to stop it at; one of a few words is unmeasured."""
    answer = content(answered(target.chat(PROMPT, max_tokens=_CAP).success()))
    words = answer.split()
    for word in words[2:]:
        if len(words) >= _MIN_WORDS and answer[: answer.index(word)].split():
            return Stopping(answer, word)
    raise Unmeasured(f"the answer is too short to stop in its middle: {answer!r}")
