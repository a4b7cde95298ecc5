"""Values that travel between the layers: no I/O, no third-party client, frozen where possible."""
