"""Wire formats: how requests become bodies and bytes become outputs, without I/O."""
