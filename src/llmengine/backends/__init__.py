"""The backends, one file each: the dialect, the default address and the differences of a server."""
