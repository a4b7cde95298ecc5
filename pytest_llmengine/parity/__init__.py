"""Compare a candidate engine's answers with a baseline's, relative to the baseline's own noise."""

from pytest_llmengine.parity.compare import Choices, Selection, choose, compare, judge
from pytest_llmengine.parity.live import Live
from pytest_llmengine.parity.prompts import ParityError, ParityPrompt
from pytest_llmengine.parity.side import Side, load, save
from pytest_llmengine.parity.verdict import ParityReport, ParityVerdict

__all__ = [
    "Choices",
    "Live",
    "ParityError",
    "ParityPrompt",
    "ParityReport",
    "ParityVerdict",
    "Selection",
    "Side",
    "choose",
    "compare",
    "judge",
    "load",
    "save",
]
