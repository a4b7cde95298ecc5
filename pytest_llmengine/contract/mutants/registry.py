"""The registry of mutants, by the check that must notice them."""

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


def mutant(check: str, behaviour: Behaviour) -> None:
    """Register a behaviour that the check with this id must notice."""
    _mutants.append(Mutant(check, behaviour))


def mutants() -> list[Mutant]:
    """Every mutant, in the order of the files and registrations."""
    package = importlib.import_module("pytest_llmengine.contract.mutants")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return list(_mutants)
