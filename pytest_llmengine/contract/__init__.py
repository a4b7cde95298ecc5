"""The contract: rules for LLM servers, each written as a function that checks a target.

The names that a user's own rules need are listed in ``__init__.pyi``; ``docs/contract.md`` shows
how to write such rules. The names are loaded when they are first used, so that the command and the
plugin start quickly.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
