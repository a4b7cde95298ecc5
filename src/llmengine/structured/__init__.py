"""Structured output as policy, without I/O: which step to take, what to send, what to believe."""
