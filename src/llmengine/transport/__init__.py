"""HTTP transports and their rules: connections, clocks, limits, retries and the event loop.

No other package does network I/O.
"""
