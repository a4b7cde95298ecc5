"""Mutants: mock servers that break exactly one rule, for every check, one file per group."""
