"""What goes wrong with a schema."""

from __future__ import annotations


class SchemaError(ValueError):
    """A schema that is none, or that no value was found for."""
