"""Which mutant kills which check."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.mock.behaviour import Behaviour


@dataclass(frozen=True, slots=True)
class Mutant:
    """The mock server with one rule broken; `check` must not pass on it."""

    check: str
    behaviour: Behaviour


_mutants: list[Mutant] = []


def mutant(check: str, behaviour: Behaviour) -> None:
    """Register a behaviour that the check of that id must notice."""
    _mutants.append(Mutant(check, behaviour))


def mutants() -> list[Mutant]:
    """Every mutant, in the order of the files and rows."""
    package = importlib.import_module("pytest_llmengine.contract.mutants")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return list(_mutants)
