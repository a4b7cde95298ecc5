"""The backends, one file each: the dialect, default address and peculiarities of a server."""
