"""Sort support tickets into typed answers: the same program for DSPy 2.4.9 and 3.x.

It runs llama.cpp with a real small model in this process. For another server, change EngineConfig.
"""

from typing import Literal

import dspy
from pydantic import BaseModel, Field

from llmengine import EngineConfig
from llmengine.integrations.dspy import to_lm

try:
    from dspy.functional import TypedPredictor as Predict  # 2.4.9
except ImportError:
    from dspy import Predict  # 3.x


class Ticket(BaseModel):
    """What support has to know."""

    category: Literal["billing", "bug", "question"]
    urgent: bool
    summary: str = Field(max_length=60)


class Triage(dspy.Signature):
    """Sort a support ticket."""

    text: str = dspy.InputField()
    ticket: Ticket = dspy.OutputField()


def main():
    engine = EngineConfig(backend="embedded", model="smollm2-135m").engine
    dspy.settings.configure(lm=to_lm(engine, temperature=0.0, max_tokens=150))
    triage = Predict(Triage)
    for text in ("I was charged twice this month!", "The app crashes when I log in."):
        ticket = triage(text=text).ticket
        print(f"{ticket.category} urgent={ticket.urgent} {ticket.summary!r}")


if __name__ == "__main__":
    main()
