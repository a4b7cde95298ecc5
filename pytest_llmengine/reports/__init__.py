"""From verdicts to what people and programs read: terminal, JSON, Markdown."""

from pytest_llmengine.reports.record import CheckRecord
from pytest_llmengine.reports.report import Header, Report
from pytest_llmengine.reports.write import check_path, write_report

__all__ = ["CheckRecord", "Header", "Report", "check_path", "write_report"]
