"""The catalogue of all checks, with the packages that some of them need."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum, StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from llmengine.types.request import Capability
    from pytest_llmengine.contract.target import Target


@dataclass(frozen=True, slots=True)
class Package:
    """A client library with its minimum version; our extra with that name installs it."""

    name: str
    since: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``dspy>=3.4``; raises ValueError for another form."""
        name, found, since = text.partition(">=")
        if not name or not found:
            raise ValueError(f"{text!r} is not a name and a version such as dspy>=3.4")
        return cls(name, _release(since))

    def __str__(self) -> str:
        major, minor = self.since
        return f"{self.name}>={major}.{minor}"

    @property
    def installed(self) -> str:
        """The installed release, such as ``dspy-3.4``; all its versions send the same requests."""
        major, minor = _release(version(self.name))
        return f"{self.name}-{major}.{minor}"

    @property
    def missing(self) -> str:
        """Why it cannot be used here and how to install it; "" if it can be used."""
        install = f"pip install 'pytest-llmengine[{self.name}]'"
        try:
            here = version(self.name)
        except PackageNotFoundError:
            return f"{self} is not installed: {install}"
        if _release(here) < self.since:
            return f"{self.name} {here} is installed, and this drives {self}: {install}"
        return ""


def _release(text: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor = (int(part) for part in text.split(".")[:2])
    return major, minor


DSPY = Package("dspy", (3, 1))


CheckFunction = Callable[["Target"], None]


class Level(StrEnum):
    """What a rule is based on."""

    REQUIRED = "required"  # OpenAI's schema
    EXPECTED = "expected"  # OpenAI's prose, or its observed behaviour
    OPTIONAL = "optional"  # a capability that a server may lack
    QUIRK = "quirk"  # transport, or behaviour on which clients rely


class Tier(IntEnum):
    """How thorough a run is; a tier includes the tiers before it."""

    SMOKE = 1
    CORE = 2
    EXTENDED = 3


REQUIRED, EXPECTED, OPTIONAL, QUIRK = Level
SMOKE, CORE, EXTENDED = Tier


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the contract.

    ``id`` is never reused or renamed. ``source`` says where the rule comes from. A server without
    one of the capabilities in ``needs`` may refuse the request. ``timing`` marks a rule that is
    checked by arrival times. ``package`` is a client library that the check uses. ``group``, such
    as ``chat.stream``, is for grouping reports and selecting checks.
    """

    id: str
    run: CheckFunction
    level: Level
    tier: Tier
    source: str
    needs: frozenset[Capability] = frozenset()
    timing: bool = False
    package: Package | None = None
    group: str = ""

    @property
    def missing(self) -> str:
        """Why the check cannot be run in this installation; "" if it can."""
        return self.package.missing if self.package else ""

    @property
    def cassette(self) -> str:
        """The name of its recording, with the release of the client library if it uses one."""
        return f"{self.package.installed}/{self.id}" if self.package else self.id

    @property
    def title(self) -> str:
        """The rule in one sentence: the first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


_catalogue: dict[str, Check] = {}


def check(  # noqa: PLR0913 - the fields of a check
    id: str,  # noqa: A002 - the name of the field
    *,
    level: Level,
    tier: Tier,
    source: str,
    needs: Iterable[Capability] = (),
    timing: bool = False,
    package: Package | None = None,
    group: str = "",
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check; the first line of its docstring is the rule.

    The default group is named after the file: ``chat_stream.py`` holds ``chat.stream``.
    """

    def register(run: CheckFunction) -> CheckFunction:
        if id in _catalogue:
            msg = f"check id {id!r} is taken by {_catalogue[id].run.__module__}"
            raise ValueError(msg)
        if not run.__doc__:
            msg = f"check {id!r} has no docstring; its first line is the rule that reports print"
            raise ValueError(msg)
        own = group or run.__module__.rpartition(".")[2].replace("_", ".")
        _catalogue[id] = Check(id, run, level, tier, source, frozenset(needs), timing, package, own)
        return run

    return register


def catalogue() -> dict[str, Check]:
    """Every check of the contract by id, in the order of the files and functions."""
    package = importlib.import_module("pytest_llmengine.contract.checks")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return dict(_catalogue)


def groups() -> list[str]:
    """The groups in the order of the catalogue."""
    return list(dict.fromkeys(c.group for c in catalogue().values()))


def select(
    *,
    tier: Tier = EXTENDED,
    ids: Iterable[str] = (),
    skip: Iterable[str] = (),
    levels: Iterable[Level] = (),
) -> list[Check]:
    """Select checks by tier (with the tiers below), levels and names, without those in `skip`.

    A name is a group, which includes the groups below it, or an id, or the start of ids. Raises
    LookupError for a name that matches no check, and if no check is left.
    """
    wanted, unwanted, kept = list(ids), list(skip), frozenset(levels or Level)
    rows = [c for c in catalogue().values() if c.tier <= tier]
    known = set(groups())
    for name in (*wanted, *unwanted):
        if not any(_is_named(c, name, known) for c in rows):
            raise LookupError(_unknown(name, known, tier))
    found = [
        c
        for c in rows
        if c.level in kept
        and (not wanted or any(_is_named(c, name, known) for name in wanted))
        and not any(_is_named(c, name, known) for name in unwanted)
    ]
    if not found:
        raise LookupError("no check is left: what is selected is all skipped, or of other levels")
    return found


def _is_named(check: Check, name: str, known: set[str]) -> bool:
    """Whether a name selects a check; a name that is a group is not the start of ids too."""
    here = check.group if name in known else check.id
    return check.id == name or f"{here}.".startswith(f"{name}.")


def _unknown(name: str, known: set[str], tier: Tier) -> str:
    every = catalogue()
    if any(_is_named(c, name, known) for c in every.values()):
        return f"no check of {name!r} is in the tier {tier.name.lower()}; give a deeper --tier"
    close = get_close_matches(name, [*known, *every], n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"no check or group is called {name!r}{meant}; `llmengine contract list` shows the checks, "
        f"and the groups are {', '.join(sorted(known))}"
    )
