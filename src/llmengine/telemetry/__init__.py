"""What calls use and cost, and where that is told: meter, log and traces."""

from llmengine.telemetry.metering import Snapshot, Totals, UsageMeter, Who, meter
from llmengine.telemetry.summary import BatchSummary

__all__ = ["BatchSummary", "Snapshot", "Totals", "UsageMeter", "Who", "meter"]
