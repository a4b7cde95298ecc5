"""Client libraries run against a target, so that what breaks is laid at the right door."""
