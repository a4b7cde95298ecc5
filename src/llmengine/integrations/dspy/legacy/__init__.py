"""DSPy 2.4: a language model is a class of its own kind, asked by one prompt."""
