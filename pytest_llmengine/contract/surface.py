"""The surface of the reference: its kinds of answers, the places in them, and who reads them.

It is recorded by one run of the checks, so what no check asks for is not part of it.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmengine.mock import MockServer, specification
from llmengine.mock.app import OPERATIONS
from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.registry import Check

API_KEY = "sk-contract-coverage"  # the reference requires one, or the rules of auth cannot be kept
ITEMS = "[]"
ERROR = "error"
# The mutants of a server must not keep the suite waiting for an answer that never comes.
LIMITS = Limits(answer=5.0, check=15.0)
_SAMPLES = 24

# What is below these keys is the client's own: names of its schemas and tools, and of its data.
_OPAQUE = frozenset({"metadata", "parameters", "schema", "top_logprobs.*"})


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a value stands: the kind of answer, the kind of event in a stream, and the path.

    The items of a list have the path ``[]``. A whole body has the part "".
    """

    kind: str
    part: str = ""
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        path = ".".join(self.path).replace(f".{ITEMS}", ITEMS)
        return " ".join(part for part in (self.kind, self.part, path) if part)


@dataclass(slots=True)
class Surface:
    """What one run of the checks saw of the reference.

    ``samples`` are a few values of each place. ``readers`` are the ids of the checks to which the
    place was sent, ``seconds`` what each check took.
    """

    samples: dict[Place, list[Any]] = field(default_factory=dict)
    readers: defaultdict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, check: str, kind: str, part: str, body: object) -> None:
        """Add the places of a body that was sent to a check."""
        for path, value in walk(body):
            place = Place(kind, part, path)
            self.readers[place].add(check)
            self.readers[Place(kind)].add(check)
            known = self.samples.setdefault(place, [])
            if len(known) < _SAMPLES and as_text(value) not in map(as_text, known):
                known.append(value)


def as_text(value: object) -> str:
    """A JSON value as text, by which values are compared; in Python, True equals 1."""
    return json.dumps(value, ensure_ascii=False)


def walk(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Each value of a body with its path, from the outside in."""
    yield path, value
    if isinstance(value, dict) and not _is_opaque(path):
        for key, inner in value.items():
            yield from walk(inner, (*path, key))
    if isinstance(value, list):
        for inner in value:
            yield from walk(inner, (*path, ITEMS))


def _is_opaque(path: tuple[str, ...]) -> bool:
    """Whether the keys of the object at this path are the client's own."""
    legacy = path[-3:-1] == ("logprobs", "top_logprobs")  # of completions: keys are tokens
    return legacy or bool(path and path[-1] in _OPAQUE)


def kind_of(call: ReceivedRequest) -> str:
    """The method and path of an operation of OpenAI's specification; "" for any other."""
    for pattern, operation in _OPERATIONS:
        if call.method == operation.method and pattern.fullmatch(call.path):
            return operation.name.replace(" /v1", " ").replace(":path}", "}")
    return ""


def error_kind_of(call: ReceivedRequest) -> str:
    """The kind of an error, which is one for all paths; "" for the APIs that are not OpenAI's."""
    return "" if call.path.startswith(("/api/", "/v1/messages")) else ERROR


def _without_names(operation: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", operation.replace(" /v1/", " /"))


def _pattern(path: str) -> re.Pattern[str]:
    literal = re.split(r"\{[^}]*\}", path)
    return re.compile("[^/]+".join(map(re.escape, literal)))


_SPECIFIED = set(map(_without_names, specification.operations()))
_OPERATIONS = [(_pattern(o.path), o) for o in OPERATIONS if _without_names(o.name) in _SPECIFIED]


def part_of(event: JSON) -> str:
    """The kind of an event in a stream: its type, or what a chunk is about."""
    if isinstance(event.get("type"), str):
        return str(event["type"])
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "usage"
    delta = choices[0].get("delta")
    if choices[0].get("finish_reason") is not None:
        return "finish"
    if isinstance(delta, dict) and "role" in delta:
        return "first"
    return "tool" if isinstance(delta, dict) and "tool_calls" in delta else "text"


def record_surface(checks: Sequence[Check]) -> Surface:
    """Run the checks on the reference, and keep what those were sent that pass."""
    recorder = _Recorder()
    with (
        MockServer(behaviour=recorder.behaviour, api_key=API_KEY) as server,
        Target(server.base_url, server.model, api_key=API_KEY, limits=LIMITS) as target,
    ):
        for check in checks:
            recorder.seen = []
            start = time.monotonic()
            if run_check(check, target, Profile("mock")).outcome is Outcome.PASS:
                recorder.keep(check.id, time.monotonic() - start)
    return recorder.surface


class _Recorder:
    """Records through the hooks of a mock server what it sends to the current check."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, object]] = []
        self.surface = Surface()
        self.behaviour = Behaviour(
            "recorded", reply=self._reply, events=self._events, error=self._error
        )

    def keep(self, check: str, seconds: float) -> None:
        self.surface.seconds[check] = seconds
        for kind, part, body in self.seen:
            self.surface.add(check, kind, part, body)

    def _reply(self, body: JSON, call: ReceivedRequest) -> JSON:
        if kind := kind_of(call):
            self.seen.append((kind, "", body))
        return body

    def _events(self, events: list[JSON], call: ReceivedRequest) -> list[JSON]:
        if kind := kind_of(call):
            self.seen += [(f"{kind} stream", part_of(event), event) for event in events]
        return events

    def _error(self, body: JSON, call: ReceivedRequest) -> JSON:
        if kind := error_kind_of(call):
            self.seen.append((kind, "", body))
        return body
