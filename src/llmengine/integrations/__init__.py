"""The engine inside other people's frameworks, one package each; none is imported before use."""
