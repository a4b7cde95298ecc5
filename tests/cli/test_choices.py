"""The choices of options, which the command line lists itself to start without the library."""

from __future__ import annotations

import pytest

from pytest_llmengine.bench.workload import Arrivals, PromptLength
from pytest_llmengine.cli.bench import ArrivalsName, LengthName
from pytest_llmengine.cli.cassettes import FailTier, LintKind
from pytest_llmengine.cli.record_replay import RecordModeName
from pytest_llmengine.cli.verify import ModeName
from pytest_llmengine.recording.comparison import AnswerTier
from pytest_llmengine.recording.config import RECORD_MODES
from pytest_llmengine.recording.lint import FindingKind
from pytest_llmengine.targets import Mode


@pytest.mark.parametrize(
    ("choices", "known"),
    [
        (LintKind, set(FindingKind)),
        (FailTier, set(AnswerTier) - {AnswerTier.IDENTICAL}),
        (RecordModeName, set(RECORD_MODES)),
        (ArrivalsName, set(Arrivals)),
        (LengthName, set(PromptLength)),
        (ModeName, (set(Mode) | set(RECORD_MODES)) - {Mode.VERIFY}),
    ],
    ids=["lint", "tiers", "record modes", "arrivals", "lengths", "modes"],
)
def test_choices_are_those_of_the_library(choices: type, known: set[str]) -> None:
    """A choice that the library gets or loses is one of the option, too."""
    assert {str(choice) for choice in choices} == {str(name) for name in known}
