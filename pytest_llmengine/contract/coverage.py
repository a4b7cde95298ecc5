"""Tests the checks: each runs on the reference server, and on mutants where it must fail."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmengine.mock import MockServer
from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.registry import mutants, references
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.runner import CheckResult


_NO_MUTANT = "no mutant"
# The reference requires a key, because the rules of auth cannot be checked without one.
_KEY = "sk-contract-coverage"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a check on the reference, or on the mutant with this name."""

    check: str
    server: str
    outcome: Outcome
    reason: str
    accepted: bool

    @property
    def noticed(self) -> bool:
        """Whether the check tells this server from the reference; an error is not a verdict."""
        told_apart = not self.accepted or self.outcome is Outcome.LENIENT
        return told_apart and self.outcome is not Outcome.ERROR


@dataclass(frozen=True, slots=True)
class Coverage:
    """All trials: one per check on the reference, and one per mutant.

    ``left_out`` maps the id of a check that could not be run here to the reason.
    """

    reference: tuple[Trial, ...]
    mutants: tuple[Trial, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def survivors(self) -> list[Trial]:
        """The mutants that were not noticed by their check, and the checks without a mutant."""
        tried = {t.check for t in self.mutants}
        without = [replace(t, server=_NO_MUTANT) for t in self.reference if t.check not in tried]
        return [t for t in self.mutants if not t.noticed] + without

    @property
    def failed_on_reference(self) -> list[Trial]:
        """The checks that do not pass on the reference."""
        return [t for t in self.reference if t.outcome is not Outcome.PASS]

    @property
    def complete(self) -> bool:
        """Whether every check passes on the reference and notices each of its mutants."""
        return bool(self.reference) and not self.survivors and not self.failed_on_reference

    def to_dict(self) -> dict[str, Any]:
        """The counts and the problems; ``killed`` counts checks that notice all their mutants."""
        survived = {t.check for t in self.survivors}
        return {
            "checks": len(self.reference),
            "killed": len({t.check for t in self.reference} - survived),
            "mutants": len(self.mutants),
            "passed_on_reference": len(self.reference) - len(self.failed_on_reference),
            "survivors": [_row(t) for t in self.survivors],
            "failed_on_reference": [_row(t) for t in self.failed_on_reference],
            "left_out": dict(self.left_out),
        }

    def lines(self) -> list[str]:
        """The same as text: one line of counts, then one line per problem."""
        counts = self.to_dict()
        summary = (
            f"{counts['checks']} checks: {counts['passed_on_reference']} pass on the reference, "
            f"{counts['killed']} notice every one of their mutants ({counts['mutants']} in all)"
        )
        return [
            summary,
            *(f"fails on the reference: {_line(t)}" for t in self.failed_on_reference),
            *(f"survives: {_line(t)}" for t in self.survivors),
            *(f"left out: {check}: {why}" for check, why in self.left_out.items()),
        ]


def measure(checks: Sequence[Check]) -> Coverage:
    """Run the checks on the reference, and each on its own mutants, in this process.

    Checks that need a client library which is not installed are left out.
    """
    by_id = {check.id: check for check in checks if not check.missing}
    special = references()
    wanted = [m for m in mutants() if m.check in by_id]
    return Coverage(
        reference=(
            *_try([c for c in by_id.values() if c.id not in special], Behaviour()),
            *(t for c, b in special.items() if c in by_id for t in _try([by_id[c]], b)),
        ),
        mutants=tuple(t for m in wanted for t in _try([by_id[m.check]], m.behaviour)),
        left_out={check.id: check.missing for check in checks if check.missing},
    )


@contextmanager
def reference_server(behaviour: Behaviour | None = None) -> Iterator[tuple[MockServer, Target]]:
    """The reference, or a server with another behaviour, and the target of checks."""
    with (
        MockServer(behaviour=behaviour, api_key=_KEY) as server,
        Target(server.base_url, server.model, api_key=_KEY) as target,
    ):
        yield server, target


def _try(checks: Sequence[Check], behaviour: Behaviour) -> list[Trial]:
    with reference_server(behaviour) as (_, target):
        return [_trial(run_check(c, target, Profile("mock")), behaviour.name) for c in checks]


def _trial(result: CheckResult, server: str) -> Trial:
    return Trial(result.check.id, server, result.outcome, result.reason, result.accepted)


def _line(trial: Trial) -> str:
    return f"{trial.check} on {trial.server!r}: {trial.outcome} {trial.reason}".rstrip()


def _row(trial: Trial) -> dict[str, str]:
    return {
        "check": trial.check,
        "mutant": trial.server,
        "outcome": trial.outcome.value,
        "reason": trial.reason,
    }
