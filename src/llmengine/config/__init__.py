"""Engines as configuration: one value, and the files that hold many."""
