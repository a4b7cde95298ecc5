"""What servers and networks do wrong, and what the library makes of it."""
