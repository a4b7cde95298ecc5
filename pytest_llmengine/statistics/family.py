"""Several tests in one run, with one false-alarm rate for all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name; reject those that are at most the false-alarm rate of the run.

    If some of the hypotheses hold, the chance that any of them is rejected is at most this rate,
    whatever the tests have to do with each other (Holm, "A simple sequentially rejective multiple
    test procedure", 1979). Tests of one run share their answers, so nothing less general is valid.
    """
    if wrong := [name for name, p in p_values.items() if not 0 <= p <= 1]:
        raise ValueError(f"p-values must be from 0 to 1; these are not: {', '.join(wrong)}")
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values, key=p_values.__getitem__)
    for left, name in zip(range(len(ordered), 0, -1), ordered, strict=True):
        largest = max(largest, min(1.0, left * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
