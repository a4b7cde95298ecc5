"""The catalogue: every check with its row."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.values.capabilities import Capability
    from pytest_llmengine.contract.packages import Package
    from pytest_llmengine.contract.target import Target

CheckFunction = Callable[["Target"], None]


class Level(StrEnum):
    """What a rule rests on."""

    REQUIRED = "required"  # OpenAI's schema
    EXPECTED = "expected"  # OpenAI's prose, or its observed behaviour
    OPTIONAL = "optional"  # a capability that a server may lack
    QUIRK = "quirk"  # transport, or what clients have come to rely on


class Tier(IntEnum):
    """How deep a run goes; a tier includes those before it."""

    SMOKE = 1
    CORE = 2
    EXTENDED = 3


REQUIRED, EXPECTED, OPTIONAL, QUIRK = Level
SMOKE, CORE, EXTENDED = Tier


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the contract.

    ``id`` is never reused or renamed. ``source`` says where the rule comes from. ``needs`` are
    the capabilities without which a refusal is a fair answer. ``timing`` marks a rule that only
    a clock can see. ``package`` is a client library that the check drives.
    """

    id: str
    run: CheckFunction
    level: Level
    tier: Tier
    source: str
    needs: frozenset[Capability] = frozenset()
    timing: bool = False
    package: Package | None = None

    @property
    def missing(self) -> str:
        """Why the check cannot be run in this installation, "" where it can."""
        return self.package.missing if self.package else ""

    @property
    def cassette(self) -> str:
        """The name of its recording: what a client library sends changes with its releases."""
        return f"{self.package.installed}/{self.id}" if self.package else self.id

    @property
    def group(self) -> str:
        """What reports group by, such as ``chat.stream``: the file that the check stands in."""
        return self.run.__module__.rpartition(".")[2].replace("_", ".")

    @property
    def title(self) -> str:
        """The rule in one sentence: the first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


_catalogue: dict[str, Check] = {}


def check(  # noqa: PLR0913 - one row of the catalogue
    id: str,  # noqa: A002 - the row's own name
    *,
    level: Level,
    tier: Tier,
    source: str,
    needs: Iterable[Capability] = (),
    timing: bool = False,
    package: Package | None = None,
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function of a target as a check; its docstring's first line is the rule."""

    def register(run: CheckFunction) -> CheckFunction:
        if id in _catalogue:
            msg = f"check id {id!r} is taken by {_catalogue[id].run.__module__}"
            raise ValueError(msg)
        if not run.__doc__:
            msg = f"check {id!r} has no docstring; its first line is the rule that reports print"
            raise ValueError(msg)
        _catalogue[id] = Check(id, run, level, tier, source, frozenset(needs), timing, package)
        return run

    return register


def catalogue() -> dict[str, Check]:
    """Every check of the contract by id, in the order of the files and rows."""
    package = importlib.import_module("pytest_llmengine.contract.checks")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return dict(_catalogue)


def select(*, tier: Tier = EXTENDED, ids: Iterable[str] = ()) -> list[Check]:
    """The checks of a tier and those below it, or the ones named (an id or the start of one)."""
    wanted = tuple(ids)
    rows = [c for c in catalogue().values() if c.tier <= tier]
    if not wanted:
        return rows
    unknown = [w for w in wanted if not any(c.id == w or c.id.startswith(f"{w}.") for c in rows)]
    if unknown:
        msg = f"no check is called {unknown[0]!r}; `llmengine contract list` shows them all"
        raise LookupError(msg)
    return [c for c in rows if any(c.id == w or c.id.startswith(f"{w}.") for w in wanted)]
