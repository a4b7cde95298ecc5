"""DSPy 2.5 to 3.3: a language model is a subclass whose ``forward`` answers as litellm does."""
