"""Reports of the contract: their values, and their forms for a terminal and in files."""

from pytest_llmengine.reports.contract_page import print_report
from pytest_llmengine.reports.files import check_report_path, write_report
from pytest_llmengine.reports.model import CheckRecord, ContractReport, Header

__all__ = [
    "CheckRecord",
    "ContractReport",
    "Header",
    "check_report_path",
    "print_report",
    "write_report",
]
