"""Whether a candidate answers as a baseline does, but for the baseline's own noise."""

from pytest_llmengine.parity.choosing import Selection, choose
from pytest_llmengine.parity.errors import ParityError
from pytest_llmengine.parity.judging import Choices, judge
from pytest_llmengine.parity.live import Live
from pytest_llmengine.parity.prompt import Prompt
from pytest_llmengine.parity.report import Report
from pytest_llmengine.parity.run import compare
from pytest_llmengine.parity.saved import load, save
from pytest_llmengine.parity.side import Side
from pytest_llmengine.parity.verdict import Verdict

__all__ = [
    "Choices",
    "Live",
    "ParityError",
    "Prompt",
    "Report",
    "Selection",
    "Side",
    "Verdict",
    "choose",
    "compare",
    "judge",
    "load",
    "save",
]
