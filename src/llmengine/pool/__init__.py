"""Engines by name: registered, from a file, or from what the environment says."""
