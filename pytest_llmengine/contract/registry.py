"""The catalogue of all checks: those of this package, and the rules that users add."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import IntEnum, StrEnum
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from llmengine.types.errors import ConfigError
from llmengine.types.request import Capability
from pytest_llmengine.contract.driver import Driver
from pytest_llmengine.contract.sources import citations

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType

    from pytest_llmengine.contract.driver import Package
    from pytest_llmengine.contract.sources import Citation


CheckFunction = Callable[[Any], object]
"""A function of a target, or of the driver that the check names.

A string that it returns is shown with the pass, such as the counts of what was measured.
"""

F = TypeVar("F", bound=CheckFunction)
T = TypeVar("T")


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


class RuleError(ConfigError, ValueError):
    """A rule is wrong, or the file of rules; the message says where it is."""


_FIRST = date(2026, 11, 21)  # the rules of the first catalogue


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the contract.

    ``id`` is never reused or renamed. ``run`` is called with the target, or with the ``driver`` if
    there is one. ``source`` says where the rule comes from. A server without one of the
    capabilities in ``needs`` may refuse the request. ``timing`` marks a rule that is checked by
    arrival times. ``group``, such as ``chat.stream``, is for grouping reports and selecting checks.
    ``title`` is the rule in one sentence, and ``breaks`` says what a broken rule means for a
    client. ``since`` is the date on which the rule was introduced. A check that is ``alone`` does
    not run beside others. A ``heavy`` check runs after the others, because it sends many requests
    or may stop a bad server.
    """

    id: str
    run: CheckFunction
    level: Level
    tier: Tier
    source: str
    needs: frozenset[Capability] = frozenset()
    timing: bool = False
    driver: type[Driver] | None = None
    group: str = ""
    title: str = ""
    breaks: str = ""
    since: date = _FIRST
    alone: bool = False
    heavy: bool = False

    @property
    def package(self) -> Package | None:
        """The client library that the driver needs, or None."""
        return self.driver.package if self.driver else None

    @property
    def missing(self) -> str:
        """Why the check cannot be run in this installation; "" if it can."""
        return self.driver.missing() if self.driver else ""

    @property
    def recordings(self) -> str:
        """The subfolder of its recordings, which a driver may name; "" if there is none."""
        return self.driver.recordings() if self.driver else ""

    @property
    def cassette(self) -> str:
        """The name of its recording, with the subfolder."""
        return f"{self.recordings}/{self.id}" if self.recordings else self.id

    @property
    def citations(self) -> list[Citation]:
        """The documents that the source names; a user's rule may have a source without any."""
        try:
            return citations(self.source)
        except ValueError:
            return []

    @property
    def own_file(self) -> str | None:
        """The file of a rule that a user has added; None for a check of this package."""
        shipped = _function(self.run).__module__.startswith(f"{_CHECKS}.")
        return None if shipped else _code(self.run).co_filename


_CHECKS = "pytest_llmengine.contract.checks"
_LEVELS = {level.value: level for level in Level}
_TIERS = {tier.name.lower(): tier for tier in Tier}
_CAPABILITIES = {capability.value: capability for capability in Capability}
_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_OTHER_PREFIXES = {"comp", "emb", "long", "rate", "resp"}  # ids that do not begin with their group

_catalogue: dict[str, Check] = {}
_forgotten: list[Check] = []


def check(  # noqa: PLR0913 - the fields of a check
    id: str,  # noqa: A002 - the name of the field
    *,
    level: Level | Literal["required", "expected", "optional", "quirk"],
    tier: Tier | Literal["smoke", "core", "extended"],
    source: str,
    needs: Iterable[Capability | str] = (),
    timing: bool = False,
    driver: type[Driver] | None = None,
    group: str = "",
    title: str = "",
    breaks: str = "",
    since: str = "",
    alone: bool = False,
    heavy: bool = False,
) -> Callable[[F], F]:
    """Register a function as a check; the first line of its docstring is the rule.

    The rest of the docstring says what a broken rule means for a client. For rules that a table
    makes, ``title`` and ``breaks`` take the place of the docstring, and the function may be a
    ``functools.partial``. ``since`` is a date such as 2026-11-27. The default group is the id
    without its last part. The function is called with the target, or with an instance of
    ``driver``. Raises RuleError for a rule that is not valid.
    """

    def register(run: F) -> F:
        __tracebackhide__ = True  # pytest shows the line of the rule and not this one
        try:
            new = Check(
                id,
                _checked_function(run, title),
                _one_of("level", level, _LEVELS),
                tier if isinstance(tier, Tier) else _one_of("tier", tier, _TIERS),
                source,
                frozenset(_one_of("capability", name, _CAPABILITIES) for name in needs),
                timing,
                _checked_driver(driver),
                group or id.rpartition(".")[0],
                title or _doc(run)[0],
                breaks or _doc(run)[1],
                date.fromisoformat(since) if since else _FIRST,
                alone or timing or driver is not None,
                heavy,
            )
            _check_names(new)
        except ValueError as error:
            raise RuleError(f"{_place(run)}: rule {id!r}: {error}") from None
        _catalogue[id] = new
        return run

    return register


def _one_of(what: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise ValueError(f"the {what} {name!r} is not one of {', '.join(known)}")
    return known[name]


def _checked_function(run: CheckFunction, title: str) -> CheckFunction:
    function = _function(run)
    if not inspect.isfunction(function):
        raise ValueError("it is not a function")
    if any(kind(function) for kind in _NEVER_RUN):
        raise ValueError("an async function or a generator is not run when it is called")
    if not title and not _doc(run)[0]:
        raise ValueError("it has no docstring; the first line is the rule that reports print")
    return run


def _function(run: CheckFunction) -> CheckFunction:
    """The function itself, without decorators and bound arguments."""
    while isinstance(run, partial):
        run = run.func
    function: CheckFunction = inspect.unwrap(run)
    return function


def _doc(run: CheckFunction) -> tuple[str, str]:
    """The first line of a function's docstring, and the rest as one line."""
    first, _, rest = inspect.cleandoc(_function(run).__doc__ or "").partition("\n")
    return first, " ".join(rest.split())


_NEVER_RUN = (
    inspect.iscoroutinefunction,
    inspect.isasyncgenfunction,
    inspect.isgeneratorfunction,
)


def _checked_driver(driver: type[Driver] | None) -> type[Driver] | None:
    if driver is not None and not (isinstance(driver, type) and issubclass(driver, Driver)):
        raise ValueError(f"the driver {driver!r} is not a subclass of Driver")
    return driver


def _check_names(new: Check) -> None:
    """Raise ValueError if the id or the group is malformed, taken or reserved."""
    if not _ID.fullmatch(new.id):
        raise ValueError(
            "an id has parts of lower-case letters, digits and _ that are joined by dots, such as "
            "acme.names_itself"
        )
    known = _catalogue.get(new.id)
    again = known is not None and (_place(known.run), known.title) == (_place(new.run), new.title)
    if known is not None and not again:  # not a second import of the same rule
        raise ValueError(f"the id is taken by {_place(known.run)}")
    if new.own_file is None:
        return
    for name in (new.id, new.group):
        if (first := name.partition(".")[0]) in reserved_prefixes():
            raise ValueError(
                f"{first!r} begins the names of shipped rules; begin with a name of your own"
            )
    if not new.id.startswith(f"{new.group}."):
        raise ValueError(f"an id begins with its group, and the group is {new.group!r}")


def reserved_prefixes() -> set[str]:
    """The first parts of the ids and groups of this package, without an import of its checks."""
    return {module.partition("_")[0] for module in _modules()} | _OTHER_PREFIXES


def _modules() -> list[str]:
    """The names of the modules with the checks of this package, without an import of them."""
    spec = importlib.util.find_spec(_CHECKS)
    places = spec.submodule_search_locations if spec else None
    return sorted(module.name for module in pkgutil.iter_modules(places or ()))


def _code(run: CheckFunction) -> CodeType:
    code: CodeType = _function(run).__code__
    return code


def _place(run: CheckFunction) -> str:
    """The file and line of a check; for what is not a function, its name."""
    if not inspect.isfunction(_function(run)):
        return repr(run)
    return f"{_code(run).co_filename}:{_code(run).co_firstlineno}"


def read_rules(path: Path) -> None:
    """Import a Python file with rules, as pytest imports ``conftest.py``.

    Its folder is added to ``sys.path``. Raises RuleError that names the file and the line, and
    OSError for a file that does not exist.
    """
    path = path.absolute()
    path.stat()
    name = f"llmengine_rules_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # there is a loader
    module = sys.modules[name] = module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        loader.exec_module(module)
    except RuleError:
        raise
    except Exception as error:
        raise RuleError(f"{_line_of(path, error)}: {type(error).__name__}: {error}") from error
    if all(check.own_file is None for check in _catalogue.values()):
        raise RuleError(f"{path}: there is no rule in it; `@check(...)` makes one of a function")


def _line_of(path: Path, error: Exception) -> str:
    """The line of a file that led to an error; a syntax error names its own line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def forget_rules(modules: Iterable[object]) -> None:
    """Remove the rules that were defined in these modules, so that others may have their ids."""
    rules = _rules_of(modules, _catalogue.values())
    _forgotten.extend(_catalogue.pop(entry.id) for entry in rules)


def recall_rules(modules: Iterable[object]) -> None:
    """Add the rules again that `forget_rules` removed and that were defined in these modules."""
    for entry in _rules_of(modules, _forgotten):
        _forgotten.remove(entry)
        _catalogue.setdefault(entry.id, entry)


def _rules_of(modules: Iterable[object], rules: Iterable[Check]) -> list[Check]:
    spaces = [vars(module) for module in modules if isinstance(module, ModuleType)]
    return [r for r in rules if any(_function(r.run).__globals__ is s for s in spaces)]


def catalogue() -> dict[str, Check]:
    """Every check by id: those of this package by file, group and function, then those of users."""
    importlib.import_module(_CHECKS)
    places: dict[str, int] = {}
    for entry in _catalogue.values():
        places.setdefault(entry.group, len(places))
    ordered = sorted(_catalogue.values(), key=lambda e: (e.own_file is not None, places[e.group]))
    return {entry.id: entry for entry in ordered}


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

    A name is a group, which includes the groups below it, or an id, or the start of ids. Heavy
    checks come last. Raises LookupError for a name that matches no check, and if no check is left.
    """
    wanted, unwanted, wanted_levels = list(ids), list(skip), frozenset(levels or Level)
    rows = [c for c in catalogue().values() if c.tier <= tier]
    known = set(groups())
    for name in (*wanted, *unwanted):
        if not any(_is_named(c, name, known) for c in rows):
            raise LookupError(_unknown(name, known, tier))
    found = [
        c
        for c in rows
        if c.level in wanted_levels
        and (not wanted or any(_is_named(c, name, known) for name in wanted))
        and not any(_is_named(c, name, known) for name in unwanted)
    ]
    if not found:
        raise LookupError("no check is left: what is selected is all skipped, or of other levels")
    return sorted(found, key=lambda c: c.heavy)


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
