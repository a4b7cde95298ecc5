"""Reports of the contract: their values, and their forms for a terminal and in files."""

from pytest_llmengine.reports.contract_page import print_report, write_report
from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header
from pytest_llmengine.reports.page import check_path

__all__ = [
    "CheckRecord",
    "ContractReport",
    "Header",
    "check_path",
    "print_report",
    "write_report",
]
