"""From the outcome of a comparison to what people and programs read."""

from pytest_llmengine.parity.reports.write import FORMS, write_report

__all__ = ["FORMS", "write_report"]
