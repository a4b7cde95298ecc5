"""A whole comparison, in the order that wastes least: what forbids it is looked for first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.parity.causes import mismatches
from pytest_llmengine.parity.judging import causes_of, judge, not_comparable
from pytest_llmengine.parity.live import Live
from pytest_llmengine.parity.throughput import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmengine.parity.judging import Choices
    from pytest_llmengine.parity.prompt import Prompt
    from pytest_llmengine.parity.report import Report
    from pytest_llmengine.parity.side import Side


def compare(
    baseline: Live | Side,
    candidate: Live | Side,
    prompts: Sequence[Prompt],
    choices: Choices,
    keep: Callable[[Side], None] = lambda _: None,
) -> Report:
    """The report on two sides, each live or saved, over these prompts.

    ``keep`` is given the baseline once it is measured: what happens to the candidate then loses
    nothing.
    """
    refused = _refused(baseline, candidate, prompts, choices)
    if refused is not None:
        return refused
    ours = _measured(baseline, prompts, noise=True)
    keep(ours)
    theirs = _measured(candidate, prompts, noise=False)
    throughput = None
    if isinstance(baseline, Live) and isinstance(candidate, Live):
        throughput = in_turns(baseline, candidate, prompts, choices.rounds)
    return judge(ours, theirs, choices, throughput)


def _refused(
    baseline: Live | Side,
    candidate: Live | Side,
    prompts: Sequence[Prompt],
    choices: Choices,
) -> Report | None:
    """The report on a mismatch that one prompt of each kind shows; None if there is none."""
    sample = list({prompt.kind: prompt for prompt in reversed(prompts)}.values())
    ours = _measured(baseline, sample, noise=False)
    theirs = _measured(candidate, sample, noise=False)
    causes = causes_of(ours, theirs, choices)
    return not_comparable(ours, theirs, causes) if mismatches(causes) else None


def _measured(side: Live | Side, prompts: Sequence[Prompt], *, noise: bool) -> Side:
    if isinstance(side, Live):
        return side.measure(prompts, noise=noise)
    return side.only(prompt.id for prompt in prompts)
