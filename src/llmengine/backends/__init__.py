"""The backends, one file each: which dialect, where, and what is special about the server."""
