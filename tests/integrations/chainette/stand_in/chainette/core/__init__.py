"""Steps and chains."""
