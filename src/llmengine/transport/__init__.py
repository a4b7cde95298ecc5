"""The only place that does I/O: connections, clocks, limits, retries, and the loop they run on."""
