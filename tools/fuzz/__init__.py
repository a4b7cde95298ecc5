"""Fuzzing of the decoders; run it with ``nox -s fuzz``."""
