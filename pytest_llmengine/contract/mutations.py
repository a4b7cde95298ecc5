"""Mutations of answers: the ways in which a value, an event or a key of an answer is changed."""

from __future__ import annotations

import re
import unicodedata
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.surface import ITEMS, Place, as_text, error_kind_of, kind_of, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest
    from pytest_llmengine.contract.surface import Surface

_DROPPED = object()
_ANOTHER = "something_else"
# Texts that a model wrote, or that a person reads; the other strings are names and ids.
_TEXTS = frozenset(
    {"arguments", "content", "delta", "message", "reasoning", "refusal", "text", "token"}
)


class MutationOperator(NamedTuple):
    """A change of one value; it is made to values of these types only."""

    edit: Callable[[Any], object]
    types: tuple[type, ...] = (str, int, float, bool, list, dict, type(None))
    texts_only: bool = False


def _text(edit: Callable[[str], str]) -> MutationOperator:
    return MutationOperator(edit, (str,), texts_only=True)


def _list(edit: Callable[[list[Any]], list[Any]]) -> MutationOperator:
    return MutationOperator(edit, (list,))


def _number(edit: Callable[[Any], Any]) -> MutationOperator:
    return MutationOperator(edit, (int, float))


def _middle(text: str, instead: str) -> str:
    half = len(text) // 2
    return text[:half] + instead + text[half + 1 :] if text else text


OPERATORS: Mapping[str, MutationOperator] = {
    "dropped": MutationOperator(lambda _: _DROPPED),
    "null": MutationOperator(lambda _: None),
    "as text": MutationOperator(as_text, (int, float, bool, list, dict, type(None))),
    "as number": MutationOperator(lambda _: 7.5),
    "as boolean": MutationOperator(lambda value: value is not True),
    "as list": MutationOperator(lambda value: [value]),
    "as object": MutationOperator(lambda value: {"value": value}),
    "empty": MutationOperator(lambda value: type(value)(), (str, list, dict)),
    "one more": _number(lambda value: value + 1),
    "one less": _number(lambda value: value - 1),
    "a thousand times": _number(lambda value: value * 1000),
    "negative": _number(lambda value: -value - 1),
    "without the first": _list(lambda value: value[1:]),
    "without the last": _list(lambda value: value[:-1]),
    "the first twice": _list(lambda value: [*value[:1], *value]),
    "reversed": _list(lambda value: value[::-1]),
    "another": MutationOperator(lambda _: _ANOTHER, (str,)),
    "first half": MutationOperator(lambda text: text[: len(text) // 2], (str,)),
    "twice": MutationOperator(lambda text: text + text, (str,)),
    "cut in the middle": _text(lambda text: text[: len(text) // 3] + text[2 * len(text) // 3 :]),
    "lower case": _text(str.lower),
    "trimmed": _text(str.strip),
    "one space for white space": _text(lambda text: re.sub(r"\s+", " ", text)),
    "one character replaced": _text(lambda text: _middle(text, "~")),
    "one character U+FFFD": _text(lambda text: _middle(text, "\N{REPLACEMENT CHARACTER}")),
    "after other text": _text(lambda text: f"Sure! {text}"),
    "decomposed": _text(lambda text: unicodedata.normalize("NFD", text)),
    "composed": _text(lambda text: unicodedata.normalize("NFKC", text)),
    "with a marker": _text(lambda text: f"{text}<|im_end|>"),
}

Events = list[Any]


def _moved(events: Events, at: list[int]) -> Events:
    """The events with the first of these places after the event that follows it."""
    first = at[0]
    return [*events[:first], *events[first + 1 : first + 2], events[first], *events[first + 2 :]]


EVENTS: Mapping[str, Callable[[Events, list[int]], Events]] = {
    "first event dropped": lambda events, at: [*events[: at[0]], *events[at[0] + 1 :]],
    "last event dropped": lambda events, at: [*events[: at[-1]], *events[at[-1] + 1 :]],
    "every event dropped": lambda events, at: [e for i, e in enumerate(events) if i not in at],
    "first event twice": lambda events, at: [*events[: at[0] + 1], *events[at[0] :]],
    "last event twice": lambda events, at: [*events[: at[-1] + 1], *events[at[-1] :]],
    "first event after the next": _moved,
}
"""Changes of a stream's events; the numbers are the places of the events of one part."""

_FIRST_KEY = re.compile(rb'\{("[^"]+"):')
BYTES: Mapping[str, Callable[[list[bytes]], list[bytes]]] = {
    "first key twice": lambda chunks: [_FIRST_KEY.sub(rb"{\1:null,\1:", c, count=1) for c in chunks]
}
"""Changes of the bytes of an answer."""


@dataclass(frozen=True, slots=True, order=True)
class Mutation:
    """One change of one place: an operator of the tables, or two keys that are swapped."""

    place: Place
    operator: str
    swapped: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.operator}"


def mutations(surface: Surface) -> Iterator[Mutation]:
    """Every mutation of the surface, in a fixed order."""
    for kind in sorted({place.kind for place in surface.samples}):
        yield from (Mutation(Place(kind), name) for name in BYTES)
    for place in sorted(surface.samples):
        samples = surface.samples[place]
        if place.part and not place.path:
            yield from (Mutation(place, name) for name in EVENTS)
        for name, operator in OPERATORS.items():
            if _applies(operator, place) and any(_edited(operator, v) for v in samples):
                yield Mutation(place, name)
        yield from (
            Mutation(place, f"{one} and {other} swapped", (one, other))
            for one, other in sorted(set(_swaps(samples)))
        )


def _applies(operator: MutationOperator, place: Place) -> bool:
    """Whether an operator is for this place; a whole event stays an object, with a name."""
    last = next((step for step in reversed(place.path) if step != ITEMS), "")
    if operator.texts_only and last not in _TEXTS:
        return False
    if place.path:
        return not (place.path[-1] == ITEMS and operator is OPERATORS["dropped"])
    return not place.part and operator is not OPERATORS["dropped"]


def _edited(operator: MutationOperator, value: object) -> list[object]:
    """The changed value in a list, which is empty if the operator does not change this value."""
    if type(value) not in operator.types:
        return []
    changed = operator.edit(value)
    same = changed is not _DROPPED and as_text(changed) == as_text(value)
    return [] if same else [changed]


def _swaps(samples: list[Any]) -> Iterator[tuple[str, str]]:
    """The pairs of keys whose values have the same type and differ, and are not containers."""
    for value in samples:
        if not isinstance(value, dict):
            continue
        scalars = {k: v for k, v in value.items() if not isinstance(v, (dict, list, type(None)))}
        for (one, a), (other, b) in combinations(sorted(scalars.items()), 2):
            if type(a) is type(b) and a != b:
                yield one, other


class Mutator:
    """A behaviour of the mock server that applies one mutation at a time.

    ``changed`` says whether it changed any answer since it was set.
    """

    def __init__(self) -> None:
        self.changed = False
        self._mutation: Mutation | None = None
        self.behaviour = Behaviour(
            "mutated", reply=self._reply, events=self._events, error=self._error, wire=self._wire
        )

    def use(self, mutation: Mutation) -> None:
        """Apply this mutation from now on."""
        self._mutation, self.changed = mutation, False

    def _reply(self, body: JSON, call: ReceivedRequest) -> JSON:
        return self._mutated(body, kind_of(call))

    def _error(self, body: JSON, call: ReceivedRequest) -> JSON:
        return self._mutated(body, error_kind_of(call))

    def _events(self, events: Events, call: ReceivedRequest) -> Events:
        kind = f"{kind_of(call)} stream"
        mutation = self._mutation
        if mutation is None or mutation.place.kind != kind:
            return events
        at = [i for i, event in enumerate(events) if part_of(event) == mutation.place.part]
        if mutation.operator in EVENTS:
            return self._noted(events, EVENTS[mutation.operator](events, at) if at else events)
        # The reference puts one object into several events, and only one event is to be changed.
        return [
            self._mutated(deepcopy(event), kind, mutation.place.part) if index in at else event
            for index, event in enumerate(events)
        ]

    def _wire(self, reply: RawReply, call: ReceivedRequest) -> RawReply:
        mutation = self._mutation
        if mutation is None or mutation.operator not in BYTES:
            return reply
        streamed = reply.headers["content-type"].startswith("text/event-stream")
        kind = error_kind_of(call) if reply.status >= 400 else kind_of(call) + " stream" * streamed
        if mutation.place.kind == kind:
            self.changed = True
            reply.chunks = BYTES[mutation.operator](reply.chunks)
            reply.headers.pop("content-length", None)
        return reply

    def _mutated(self, body: JSON, kind: str, part: str = "") -> JSON:
        mutation = self._mutation
        if mutation is None or (mutation.place.kind, mutation.place.part) != (kind, part):
            return body
        if mutation.operator in BYTES:
            return body
        before = as_text(body)
        holder = {"body": body}
        _mutate(holder, ("body", *mutation.place.path), mutation)
        self.changed = self.changed or as_text(holder["body"]) != before
        changed: JSON = holder["body"]  # or any other value, which is then sent
        return changed

    def _noted(self, before: Events, after: Events) -> Events:
        self.changed = self.changed or len(before) != len(after) or before != after
        return after


def _mutate(value: Any, path: tuple[str, ...], mutation: Mutation) -> None:
    """Apply the mutation in place to every value at the path."""
    step, rest = path[0], path[1:]
    keys: list[Any] = []
    if isinstance(value, list) and step == ITEMS:
        keys = list(range(len(value)))
    elif isinstance(value, dict) and step in value:
        keys = [step]
    for key in keys:
        if rest:
            _mutate(value[key], rest, mutation)
        elif mutation.swapped:
            _swap(value[key], *mutation.swapped)
        else:
            for changed in _edited(OPERATORS[mutation.operator], value[key]):
                value[key] = changed
            if value[key] is _DROPPED:
                del value[key]


def _swap(value: Any, one: str, other: str) -> None:
    if isinstance(value, dict) and one in value and other in value:
        value[one], value[other] = value[other], value[one]
