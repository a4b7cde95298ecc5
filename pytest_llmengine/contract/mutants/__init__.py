"""For every check a mock server with that one rule broken, one file a group."""
