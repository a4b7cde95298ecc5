"""What the rules about effects share: measurements, and rows that become rules.

A rule about an effect compares answers with a field of the request and answers without it. Its
decision must not depend on luck, and must not blame the server for its model: a model may give the
same text to every request, or another text to the same request. Then the rule is unmeasured. So
each measurement repeats its requests, and says that a field is ignored only after the same model
showed that it can do both: repeat a text, and change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.contract.assertions import need_text
from pytest_llmengine.contract.observations import Asker, Params, Way
from pytest_llmengine.contract.outcomes import (
    CheckEnded,
    Ignored,
    Refused,
    Unmeasured,
    expect,
    fail,
    quote,
)
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, Level, Tier, check

if TYPE_CHECKING:
    from llmengine.types.request import Capability
    from pytest_llmengine.contract.target import Target


SPEC = "openai-openapi: CreateChatCompletionRequest"
SINCE = "2026-11-27"
_SAMPLES = 4
_SHORTEST = "Hi"  # a prompt with fewer tokens than any other, if the usage counts them
HOT = {"temperature": 1.5}
SEVERAL = {"n": 2, "temperature": 1}
ONE_TOKEN = 1e-6  # a top_p that leaves only the most likely token


# ---- measurements


Measurement = Callable[[Asker, str], None]
"""Ends the check as ignored or unmeasured unless the field with this name has its effect."""


def ignored(name: str, reason: str, *, fact: str = "") -> Ignored:
    """The verdict on a field that was accepted without effect."""
    return Ignored(f"{name} was accepted, and {reason}", fact=fact or f"{name} is dropped")


def _texts(ask: Asker, *all_params: Params) -> list[str]:
    return [ask(**params).text for params in all_params]


def need_repeats(texts: list[str]) -> None:
    """End as unmeasured if one request was answered with different texts."""
    if len(set(texts)) > 1:
        raise Unmeasured(
            "this model cannot show it: it answers differently each time, also at temperature 0: "
            f"{quote(texts[0])}, then {quote(texts[-1])}"
        )


def need_variety(ask: Asker, text: str, control: Params) -> None:
    """End as unmeasured if the model says this text at a high temperature as well."""
    try:
        varied = _texts(ask, *({**control, **HOT, "seed": i} for i in (1, 2)))
    except Refused:
        varied = [text]
    if set(varied) == {text}:
        raise Unmeasured(f"this model cannot show it: it says {quote(text)} whatever is asked")


@dataclass(frozen=True, slots=True)
class TextChanges:
    """At temperature 0, the text is another one with the field than without it.

    A text of fewer ``words`` is too short to show an effect.
    """

    treated: Params
    control: Params = field(default_factory=dict)
    words: int = 3

    def __call__(self, ask: Asker, name: str) -> None:
        """Ask twice each, in turns."""
        pair = [self.control, {**self.control, **self.treated}]
        seen = [ask(**params) for params in pair * 2]
        one, other, *again = [observation.text for observation in seen]
        need_repeats([one, again[0]])
        need_repeats([other, again[1]])
        if one == other:
            if len(one.split()) < self.words:
                raise Unmeasured(f"this model cannot show it: it says no more than {quote(one)}")
            seen[0].need_content()
            need_variety(ask, one, self.control)
            other = _control(name, self.control)
            raise ignored(name, f"the text is the same as {other}: {quote(one)}")


def _control(name: str, control: Params) -> str:
    """What the other request had, for a reason: another value of the field, or not the field."""
    if not isinstance(value := control.get(name), str | int | float):
        return "without it" if value is None else "with another value"
    return f"with {name}={value!r}"


@dataclass(frozen=True, slots=True)
class EachReaches:
    """Each of several changes of the prompt gives another number of tokens, or another answer.

    ``counted`` says that a change that reaches the model must change the number of tokens.
    """

    treated: tuple[Params, ...]
    control: Params
    counted: bool = True

    def __call__(self, ask: Asker, name: str) -> None:
        """Compare the prompt's tokens first, because they do not depend on chance."""
        plain = ask(**self.control).tokens("prompt_tokens")
        for params in self.treated:
            if ask(**{**self.control, **params}).tokens("prompt_tokens") == plain:
                self._compare_texts(ask, name, params, plain)

    def _compare_texts(self, ask: Asker, name: str, params: Params, plain: int | None) -> None:
        try:
            TextChanges(params, self.control)(ask, name)
        except CheckEnded as ended:
            if not self.counted:
                raise
            if plain == ask(**{**self.control, "prompt": _SHORTEST}).tokens("prompt_tokens"):
                if isinstance(ended, Unmeasured):
                    raise
                raise Unmeasured("the text is the same, and no usage shows the prompt") from None
            other = _control(name, self.control)
            raise ignored(name, f"the prompt has {plain} tokens, as {other}") from None


def reaches(treated: Params, control: Params | None = None, **columns: bool) -> EachReaches:
    """One change of the prompt reaches the model."""
    return EachReaches((treated,), control or {}, **columns)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Four samples with ``same`` are one text, which none of four samples with ``varied`` is.

    ``witness`` are other parameters that make this model repeat itself. If few texts differ, the
    field has its effect: two words may be about as likely.
    """

    same: Params
    varied: Params
    witness: Params

    def __call__(self, ask: Asker, name: str) -> None:
        """Give each sample a seed of its own, so that also a server without chance varies."""
        one = self._sampled(ask, self.same)
        if len(one) > 1:
            texts = [text for sample in one for text in sample]
            few = len(set(texts)) < len(texts) - len(texts) // _SAMPLES
            if few or len(one) < _SAMPLES - 1:
                wavers = f"it wavers between few texts: {quote(sorted(one))}"
                raise Unmeasured(f"this model cannot show it: {wavers}")
            if len(self._sampled(ask, self.witness)) > 1:
                raise Unmeasured("this model cannot show it: it varies whatever is asked")
            ask(**{"seed": 1, **self.same}).need_content()
            raise ignored(name, f"the text still varies: {quote(sorted(one))}")
        other = self._sampled(ask, self.varied)
        if one == other:
            (said,) = one
            if ask(**{**self.varied, "temperature": 0, "n": ...}).text == said[0]:
                raise Unmeasured(f"this model cannot show it: it says {quote(said)} each time")
            raise ignored(name, f"every value gives one text: {quote(said)}")
        if one & other:
            raise Unmeasured(
                f"this model cannot show it: it varies too little: {quote(sorted(other))}"
            )

    def _sampled(self, ask: Asker, params: Params) -> set[tuple[str, ...]]:
        seen = (ask(**{"seed": i, **params}) for i in range(1, _SAMPLES + 1))
        return {tuple(choice.text for choice in one.choices) for one in seen}


@dataclass(frozen=True, slots=True)
class TokensAtMost:
    """No more tokens come than the field allows, where more come if it allows more.

    Without a usage the words are counted, because a token rarely holds more than one.
    """

    limit: int
    control: Params = field(default_factory=dict)

    def __call__(self, ask: Asker, name: str) -> None:
        """Ask with the limit, and if it was kept, with a limit that is four times as high."""
        came, unit = self._count(ask, name, self.limit)
        if came > self.limit:
            self._need_count(ask, name, came)
            raise ignored(name, f"{came} {unit} came instead of {self.limit} tokens")
        more, unit = self._count(ask, name, 4 * self.limit)
        if more <= self.limit:
            raise Unmeasured(f"this model cannot show it: its whole answer has {more} {unit}")

    def _need_count(self, ask: Asker, name: str, came: int) -> None:
        """End as unmeasured if the usage does not grow with the text."""
        few, many = (ask(**{**self.control, name: n * self.limit}) for n in (1, 4))
        if many.tokens("completion_tokens") == came and len(many.text) > len(few.text):
            raise Unmeasured("the count of completion tokens does not depend on the text")

    def _count(self, ask: Asker, name: str, limit: int) -> tuple[int, str]:
        seen = ask(**{**self.control, name: limit})
        came = seen.tokens("completion_tokens")
        return (len(seen.text.split()), "words") if came is None else (came, "tokens")


@dataclass(frozen=True, slots=True)
class ChoiceCount:
    """As many choices come as the field asks for, with the indexes from 0."""

    count: int
    treated: Params

    def __call__(self, ask: Asker, name: str) -> None:
        """One request is enough."""
        seen = ask(**self.treated)
        if len(seen.choices) == 1:
            raise ignored(name, "one choice came")
        indexes = sorted(set(seen.indexes))
        expect(indexes == list(range(self.count)), f"the choices have the indexes {indexes}")


@dataclass(frozen=True, slots=True)
class Without:
    """No choice contains a text that every choice contains without the field."""

    excluded: str
    treated: Params
    control: Params = field(default_factory=dict)
    where: str = "content"

    def __call__(self, ask: Asker, name: str) -> None:
        """Chance does not matter, because the text must never be there."""
        found = [getattr(c, self.where) for c in ask(**{**self.control, **self.treated}).choices]
        plain = [getattr(c, self.where) for c in ask(**self.control).choices]
        if not all(self.excluded in text for text in plain):
            raise Unmeasured(f"this model cannot show it: it says {quote(plain)} without {name}")
        shown = [text for text in found if self.excluded in text]
        expect(
            not shown or "stop" not in self.treated or not all(map(self._ends, shown)),
            f"the text ends at the stop sequence, and keeps it: {quote(found)}",
            fact="the stop sequence is kept in the text",
        )
        if shown:
            raise ignored(name, f"the answer contains {self.excluded!r}: {quote(found)}")

    def _ends(self, text: str) -> bool:
        return text.index(self.excluded) == len(text) - len(self.excluded)


@dataclass(frozen=True, slots=True)
class StartsWith:
    """Every choice starts with these words with the field, and not every one without it."""

    words: str
    treated: Params
    control: Params = field(default_factory=dict)

    def __call__(self, ask: Asker, name: str) -> None:
        """A model that starts with the words by itself cannot show it."""
        seen = ask(**{**self.control, **self.treated})
        texts = [c.content.lstrip() for c in seen.choices]
        if not all(text.startswith(self.words) for text in texts):
            seen.need_content()
            need_text("".join(c.text for c in seen.choices))
            raise ignored(name, f"the text starts otherwise: {quote(texts)}")
        plain = [c.content.lstrip() for c in ask(**self.control).choices]
        if all(text.startswith(self.words) for text in plain):
            raise Unmeasured(f"this model cannot show it: it says {quote(plain)} without {name}")


@dataclass(frozen=True, slots=True)
class CallsOnly:
    """Every choice calls this function alone with the field, and others without it.

    ``fact`` is the cause if they call others with it too.
    """

    function: str
    treated: Params
    control: Params
    fact: str

    def __call__(self, ask: Asker, name: str) -> None:
        """A model that calls no function cannot show it."""
        plain = [sorted(set(c.names)) for c in ask(**self.control).choices]
        if not all(plain) or [self.function] in plain:
            raise Unmeasured(f"this model cannot show it: without it {quote(plain)} is called")
        called = [sorted(set(c.names)) for c in ask(**{**self.control, **self.treated}).choices]
        if any(names != [self.function] for names in called):
            reason = f"{quote(called)} is called instead of {self.function}"
            raise ignored(name, reason, fact=self.fact)


@dataclass(frozen=True, slots=True)
class StreamMatches:
    """A stream has the text of the whole answer, where the field changes the whole answer."""

    whole: Way
    treated: Params
    control: Params = field(default_factory=dict)

    def __call__(self, ask: Asker, name: str) -> None:
        """A stream that is as the whole answer without the field ignores the field."""
        whole, both = Asker(ask.target, self.whole), {**self.control, **self.treated}
        without, with_it = whole(**self.control).text, whole(**both).text
        if without == with_it:
            raise Unmeasured(f"{name} does not change the whole answer: {quote(without)}")
        if (streamed := ask(**both).text) == with_it:
            return
        need_repeats([with_it, whole(**both).text])
        need_repeats([streamed, ask(**both).text])
        if (plain := ask(**self.control).text) == streamed:
            what = f"{name} in a stream"
            raise ignored(what, f"the text is the same as without it: {quote(plain)}")
        if plain != without:
            raise Unmeasured(f"without {name} too, the stream is another text: {quote(plain)}")
        fail(f"the stream says {quote(streamed)}, and the whole answer {quote(with_it)}")


# ---- rows


def effect(  # noqa: PLR0913 - the columns of a row
    id: str,  # noqa: A002 - the name of the field
    way: Way,
    measure: Measurement,
    title: str,
    breaks: str,
    *,
    name: str = "",
    source: str = "",
    level: Level = REQUIRED,
    tier: Tier = EXTENDED,
    needs: Iterable[Capability] = (),
    group: str = "",
    since: str = SINCE,
) -> None:
    """Register a rule; the default name of the field is the last part of the id."""
    field_name = name or id.rpartition(".")[2]
    check(
        id,
        level=level,
        tier=tier,
        source=source or f"{SPEC}.{field_name}",
        needs=needs,
        group=group,
        title=title,
        breaks=breaks,
        since=since,
    )(partial(_run, way, measure, field_name))


def _run(way: Way, measure: Measurement, name: str, target: Target) -> None:
    measure(Asker(target, way), name)
