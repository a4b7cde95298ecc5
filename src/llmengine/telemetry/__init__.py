"""What calls use and cost, and where that is told: meter, log and traces."""

from llmengine.telemetry.usage import BatchSummary, Snapshot, Totals, UsageMeter, Who, meter

__all__ = ["BatchSummary", "Snapshot", "Totals", "UsageMeter", "Who", "meter"]
