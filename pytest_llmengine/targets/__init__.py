"""From an engine's name and a run's settings to something that answers at an address."""
