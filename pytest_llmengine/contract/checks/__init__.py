"""The checks of the contract, one file per group.

To import one module imports all of them in the order of their names, because the catalogue has the
groups in the order in which they were registered.
"""

from importlib import import_module
from pkgutil import iter_modules

for _name in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_name}")
