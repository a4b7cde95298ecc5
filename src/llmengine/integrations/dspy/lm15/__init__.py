"""DSPy from 3.4 on: a language model asks an engine, in the words of its own client lm15."""
