"""Engines by name: registered in code, read from a file, or described by environment variables."""
