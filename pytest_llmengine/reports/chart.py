"""A chart of lines or points in SVG, as a block of a page and as a file of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.reports.page import fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markupsafe import Markup
    from rich.console import RenderableType

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 12, 46
COLOURS = ("#d1242f", "#0969da", "#1a7f37", "#9a6700", "#8250df", "#1b7c83", "#bf3989")
"""Readable on a white and on a dark page; a series has the colour of its place."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from the lowest value to the highest, with its name and labelled ticks.

    If it is ``log``, all values are positive, and those below the lowest are drawn at it.
    """

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is on the axis, from 0 to 1; values outside are at the end."""
        value = min(max(value, self.low), self.high)
        if value == self.low:
            return 0.0
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(name: str, values: Iterable[float]) -> Axis:
    """An axis from 0 to a round number, with labels at its quarters."""
    largest = max(values, default=0.0) or 1.0
    unit = 10.0 ** math.floor(math.log10(largest))
    high = next(n * unit for n in (1, 2, 4, 6, 8, 10, 20) if n * unit >= largest)
    ticks = tuple((high * n / 4, f"{high * n / 4:.3g}") for n in range(5))
    return Axis(name, 0.0, high, ticks)


def log_axis(name: str, values: Iterable[float]) -> Axis:
    """An axis of the powers of ten around positive values."""
    powers = [math.log10(value) for value in values]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    high = max(high, low + 1)
    step = math.ceil((high - low) / _MOST_TICKS)
    ticks = tuple((10.0**n, f"{10.0**n:g}") for n in range(low, high + 1, step))
    return Axis(name, 10.0**low, 10.0**high, ticks, log=True)


_MOST_TICKS = 8


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one series; they are joined by a line unless they are ``dots``."""

    name: str
    points: tuple[tuple[float, float], ...]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over two axes. ``limits`` are dashed horizontal lines, by value and name."""

    title: str
    text: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    limits: tuple[tuple[float, str], ...] = ()

    width = WIDTH
    height = HEIGHT
    left = _LEFT
    right = WIDTH - _RIGHT
    bottom = HEIGHT - _BOTTOM

    def at_x(self, value: float) -> str:
        """The horizontal position of a value."""
        return f"{self.left + self.x.share(value) * (self.right - self.left):.1f}"

    def at_y(self, value: float) -> str:
        """The vertical position of a value."""
        return f"{self.bottom - self.y.share(value) * (self.bottom - _TOP):.1f}"

    def coloured(self) -> Iterator[tuple[Series, str]]:
        """The series with their colours."""
        for number, one in enumerate(self.series):
            yield one, COLOURS[number % len(COLOURS)]

    def to_terminal(self) -> Iterator[RenderableType]:
        """Nothing; a terminal shows the numbers only."""
        yield from ()

    def to_markdown(self) -> Iterator[str]:
        """Nothing; GitHub does not show SVG that is part of a Markdown file."""
        yield from ()

    def to_html(self) -> Markup:
        """The title, the text, the drawing and its legend."""
        return fill("chart.html.jinja", chart=self)


def svg_of(*charts: Chart) -> str:
    """A file with the charts, one below the other, each with its title and legend."""
    return str(fill("chart.svg.jinja", charts=charts))
