"""Each prompt's largest difference of log-probabilities as a small drawing, in SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.parity.measures import differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmengine.parity.report import Report

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 12, 34
_LOWEST, _HIGHEST = -7, 1  # powers of ten; a difference of 0 is drawn at the bottom


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: the sorted differences of a comparison, as points of an SVG polyline."""

    name: str
    css: str
    points: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A horizontal line of the grid with its label."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """All that the template draws; ``allowed`` is the height of what is allowed at most."""

    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    allowed: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def plot_of(report: Report) -> Plot | None:
    """The drawing for a report; None where nobody gave log-probabilities."""
    candidate = differences(report.pairs)
    if not candidate:
        return None
    lines = [_line("candidate", "candidate", candidate), *_noise_lines(report)]
    largest = next((c.allowed for c in reversed(report.criteria) if c.of is None), None)
    ticks = tuple(Tick(_y(10.0**n), f"1e{n}") for n in range(_LOWEST, _HIGHEST + 1, 2))
    return Plot(tuple(lines), ticks, None if largest is None else _y(largest))


def _noise_lines(report: Report) -> Iterator[Line]:
    for number, variation in enumerate(report.baseline.noise, 1):
        if values := differences(variation.pairs):
            yield _line(f"noise: {variation.name}", f"noise{number}", values)


def _line(name: str, css: str, values: Sequence[float]) -> Line:
    """A step for each prompt, from the smallest difference to the largest."""
    points = []
    for place, value in enumerate(values):
        points += [(_x(place / len(values)), _y(value)), (_x((place + 1) / len(values)), _y(value))]
    return Line(name, css, " ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    power = math.log10(value) if value > 0 else _LOWEST
    share = (min(max(power, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)
