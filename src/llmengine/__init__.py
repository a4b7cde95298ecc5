"""Light, stateless clients for LLM servers, with the call shape of in-process vLLM.

The public names are listed in ``__init__.pyi``. They are loaded when they are first used, so that
importing the package costs next to nothing.
"""

import logging

from lazy_loader import attach_stub

# A program that wants to read the log adds a handler; see docs/telemetry.md.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
__all__.sort(key=str.casefold)
