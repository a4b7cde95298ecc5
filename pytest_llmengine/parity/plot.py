"""The plot of a comparison in SVG: the differences of log-probabilities, and of the baseline's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.parity.verdict import differences
from pytest_llmengine.reports.page import fill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup
    from rich.console import RenderableType

    from pytest_llmengine.parity.verdict import ParityReport

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 12, 34
_LOWEST, _HIGHEST = -7, 1  # powers of ten; a difference of 0 is drawn at the bottom

_STYLES = 3  # of curves of the baseline; further passes look like the third


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: the sorted differences of log-probabilities, as points of an SVG polyline."""

    name: str
    css: str
    points: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A horizontal grid line with its label."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The plot of a page."""

    curves: tuple[Curve, ...]
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT

    def to_terminal(self) -> Iterator[RenderableType]:
        """Nothing; a terminal shows the numbers only."""
        yield from ()

    def to_markdown(self) -> Iterator[str]:
        """Nothing; GitHub does not show SVG that is part of a Markdown file."""
        yield from ()

    def to_html(self) -> Markup:
        """The drawing and its legend."""
        return fill("plot.html.jinja", package="pytest_llmengine.parity", plot=self)


def plot_of(report: ParityReport) -> Plot | None:
    """The plot of a report; None if there are no log-probabilities to compare."""
    candidate = differences(report.pairs)
    if not candidate:
        return None
    curves = [_curve("candidate", "candidate", candidate)]
    for number, (name, pairs) in enumerate(report.variations.items(), 1):
        if noise := differences(pairs):
            curves.append(_curve(f"baseline, {name}", f"noise{min(number, _STYLES)}", noise))
    ticks = tuple(Tick(_y(10.0**n), f"1e{n}") for n in range(_LOWEST, _HIGHEST + 1, 2))
    return Plot(tuple(curves), ticks)


def _curve(name: str, css: str, values: Sequence[float]) -> Curve:
    """A curve with one step per prompt, from the smallest difference to the largest."""
    points = []
    for place, value in enumerate(values):
        points += [(_x(place / len(values)), _y(value)), (_x((place + 1) / len(values)), _y(value))]
    return Curve(name, css, " ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    power = math.log10(value) if value > 0 else _LOWEST
    share = (min(max(power, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)
