"""OpenAI's own Python SDK, 2.x and 3.x, as a way to send requests."""
