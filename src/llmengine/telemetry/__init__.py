"""Usage, cost and time of calls, and how they are reported: meter, log lines and traces."""

from llmengine.telemetry.usage import BatchSummary, Snapshot, Totals, UsageMeter, Who, meter

__all__ = ["BatchSummary", "Snapshot", "Totals", "UsageMeter", "Who", "meter"]
