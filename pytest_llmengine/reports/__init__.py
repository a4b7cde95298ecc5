"""Reports of the contract: from verdicts to terminal, JSON, Markdown and HTML."""

from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header
from pytest_llmengine.reports.render import check_path, write_report

__all__ = ["CheckRecord", "ContractReport", "Header", "check_path", "write_report"]
