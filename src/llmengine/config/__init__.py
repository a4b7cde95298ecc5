"""The configuration of engines, and the files that hold it."""
