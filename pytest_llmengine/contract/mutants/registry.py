"""The registry of mutants by the check that must notice them, and of special references."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.mock.behaviour import Behaviour


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mock server that breaks one rule; `check` must not pass on it."""

    check: str
    behaviour: Behaviour


_mutants: list[Mutant] = []
_references: dict[str, Behaviour] = {}


def mutant(check: str, behaviour: Behaviour) -> None:
    """Register a behaviour that the check with this id must notice."""
    _mutants.append(Mutant(check, behaviour))


def reference(check: str, behaviour: Behaviour) -> None:
    """Register how the mock must behave so that the check with this id can pass.

    The plain mock cannot show such a rule, for example because it never limits its clients.
    """
    _references[check] = behaviour


def references() -> dict[str, Behaviour]:
    """The behaviour of the reference for the checks that the plain mock cannot show."""
    mutants()
    return dict(_references)


def mutants() -> list[Mutant]:
    """Every mutant, in the order of the files and registrations."""
    package = importlib.import_module("pytest_llmengine.contract.mutants")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return list(_mutants)
