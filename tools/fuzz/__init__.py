"""Fuzzing of the decoders; run it by ``nox -s fuzz``."""
