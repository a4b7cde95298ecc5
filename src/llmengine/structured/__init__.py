"""Structured output without I/O: schemas, the steps to ask for them, and the validation."""
