"""Types that all layers share: no I/O and no third-party client; frozen where possible."""
