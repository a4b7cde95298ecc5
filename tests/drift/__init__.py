"""Recognition of changes of a server."""
