"""Events and parsing."""
