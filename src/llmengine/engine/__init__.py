"""The parts that all engines share: single calls, batches, streams, and sync and async callers."""
