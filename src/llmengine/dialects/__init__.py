"""Wire formats, pure: requests to bodies, bytes to outputs; every split is a unit test."""
