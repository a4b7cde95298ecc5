"""Structured output without I/O: schemas, the steps that request them, and the validation."""
