"""From the outcome of a comparison to what people and programs read."""

from pytest_llmengine.parity.reports.write import check_path, write_report

__all__ = ["check_path", "write_report"]
