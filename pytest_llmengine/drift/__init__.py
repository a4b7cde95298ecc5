"""Recognise whether a server still runs the model that it ran, with a known error rate."""

from pytest_llmengine.drift.answers import (
    DriftAnswer,
    DriftError,
    DriftPrompt,
    DriftRound,
    DriftSession,
    RoundKind,
)
from pytest_llmengine.drift.baseline import (
    Baseline,
    DriftFacts,
    DriftTier,
    DriftUnit,
    Probe,
    load,
    save,
)
from pytest_llmengine.drift.check import judge
from pytest_llmengine.drift.evidence import EVIDENCE, Evidence, evidence_of
from pytest_llmengine.drift.measure import Meter
from pytest_llmengine.drift.report import (
    DriftFinding,
    DriftReport,
    DriftVerdict,
    EvidenceRow,
    NamedChange,
)

__all__ = [
    "EVIDENCE",
    "Baseline",
    "DriftAnswer",
    "DriftError",
    "DriftFacts",
    "DriftFinding",
    "DriftPrompt",
    "DriftReport",
    "DriftRound",
    "DriftSession",
    "DriftTier",
    "DriftUnit",
    "DriftVerdict",
    "Evidence",
    "EvidenceRow",
    "Meter",
    "NamedChange",
    "Probe",
    "RoundKind",
    "evidence_of",
    "judge",
    "load",
    "save",
]
