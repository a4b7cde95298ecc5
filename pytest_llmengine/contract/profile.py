"""Profiles: what an engine claims to support, and its known deviations from the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from llmengine.config.documents import DocumentError, load_toml, read_text
from llmengine.types.errors import ConfigError
from llmengine.types.request import Capability
from pytest_llmengine.contract.driver import Package
from pytest_llmengine.contract.outcomes import Outcome

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = {"engine", "capabilities", "deviation"}
_DEVIATION_KEYS = {"check", "outcome", "version", "reason", "link", "depends_on", "package", "kind"}
DEVIANT = (Outcome.FAIL, Outcome.IGNORED, Outcome.REFUSED)
"""The outcomes that a known deviation may have."""

_DEVIATION_REQUIRED = {"check", "outcome", "version", "reason"}


@dataclass(frozen=True, slots=True)
class Deviation:
    """A known way in which an engine breaks a rule; if the engine keeps the rule, the check fails.

    ``depends_on`` names something on which the deviation depends, such as a flag of the server or
    its chat template. Another server may not have such a deviation, so the check passes then.
    ``package`` is a client library whose earlier versions do not show the deviation. ``kind`` is
    the kind of the observed reason, as `kind_of` gives it: if a rule is broken in another way, the
    check fails.
    """

    check: str
    outcome: Outcome
    version: str
    reason: str
    link: str = ""
    depends_on: str = ""
    package: Package | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """The claims of one engine: capabilities, and deviations by check id."""

    engine: str
    capabilities: frozenset[Capability] = frozenset(Capability)
    deviations: dict[str, Deviation] = field(default_factory=dict)

    def deviation(self, check: str) -> Deviation | None:
        """The known deviation from a check, if this installation can show it."""
        known = self.deviations.get(check)
        hidden = known is not None and known.package is not None and known.package.missing
        return None if hidden else known


class ProfileError(ConfigError, ValueError):
    """A profile file is wrong; the message names the file, the entry and the field."""


def load_profile(engine: str, backend: str = "") -> Profile:
    """The shipped profile of an engine, else the one of its backend.

    An engine without a profile claims everything.
    """
    shipped = shipped_profiles()
    name = engine if engine in shipped or not backend else backend
    text = shipped.get(name)
    return Profile(name) if text is None else parse_profile(text, source=f"{name}.toml")


def shipped_profiles() -> dict[str, str]:
    """The text of every profile in this package, by engine."""
    folder = resources.files("pytest_llmengine.contract") / "profiles"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in files}


def read_profile(path: Path) -> Profile:
    """Read the profile in a user's file; raises ProfileError and OSError."""
    try:
        text = read_text(path)
    except DocumentError as error:
        msg = f"{path}: {error}"
        raise ProfileError(msg) from error
    return parse_profile(text, source=str(path))


def parse_profile(text: str, *, source: str) -> Profile:
    """Parse a profile in TOML; raises ProfileError that names file, entry and field."""
    try:
        data = load_toml(text)
    except DocumentError as error:
        msg = f"{source}: {error}"
        raise ProfileError(msg) from error
    if unknown := sorted(set(data) - _KEYS):
        msg = f"{source}: unknown key {unknown[0]!r}; known are {sorted(_KEYS)}"
        raise ProfileError(msg)
    return Profile(
        engine=str(data.get("engine", source)),
        capabilities=_capabilities(data, source),
        deviations=_deviations(data, source),
    )


def _capabilities(data: dict[str, Any], source: str) -> frozenset[Capability]:
    names = data.get("capabilities")
    if names is None:
        return frozenset(Capability)
    if not isinstance(names, list):
        msg = f'{source}: capabilities: {names!r} is not a list such as ["streaming"]'
        raise ProfileError(msg)
    try:
        return frozenset(Capability(name) for name in names)
    except ValueError as error:
        msg = f"{source}: capabilities: {error}; known are {[str(c) for c in Capability]}"
        raise ProfileError(msg) from error


def _deviations(data: dict[str, Any], source: str) -> dict[str, Deviation]:
    rows = data.get("deviation", [])
    if not isinstance(rows, list):
        msg = f"{source}: deviation: write [[deviation]], with two brackets, for each one"
        raise ProfileError(msg)
    found: dict[str, Deviation] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{source}: deviation {number}"
        deviation = _deviation(row, where)
        if deviation.check in found:
            msg = f"{where}: {deviation.check!r} has one already"
            raise ProfileError(msg)
        found[deviation.check] = deviation
    return found


def _deviation(row: object, where: str) -> Deviation:
    if not isinstance(row, dict):
        msg = f"{where}: write [[deviation]], with two brackets, for each one"
        raise ProfileError(msg)
    if missing := sorted(_DEVIATION_REQUIRED - set(row)):
        msg = f"{where}: {missing[0]!r} is missing; a deviation needs {sorted(_DEVIATION_REQUIRED)}"
        raise ProfileError(msg)
    if unknown := sorted(set(row) - _DEVIATION_KEYS):
        msg = f"{where}: unknown key {unknown[0]!r}; known are {sorted(_DEVIATION_KEYS)}"
        raise ProfileError(msg)
    for name, value in row.items():
        if not isinstance(value, str):
            msg = f"{where}: {name}: {value!r} is not a text"
            raise ProfileError(msg)
    if row["outcome"] not in DEVIANT:
        msg = f"{where}: the outcome {row['outcome']!r} is not one of {sorted(map(str, DEVIANT))}"
        raise ProfileError(msg)
    package = _package(row, where)
    known: dict[str, Any] = {**row, "outcome": Outcome(row["outcome"]), "package": package}
    return Deviation(**known)


def _package(row: dict[str, str], where: str) -> Package | None:
    if "package" not in row:
        return None
    try:
        return Package.parse(row["package"])
    except ValueError as error:
        msg = f"{where}: package: {error}"
        raise ProfileError(msg) from error
