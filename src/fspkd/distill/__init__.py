"""The methods that a stage can train by, each in a module with its name.

To add one: a module here (method.py says what is in it; kd.py is a short one), and a row of a preset that names it.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from fspkd.distill.method import Method, TaughtMethod

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def _below(base: type[Method]) -> Iterator[type[Method]]:
    for derived in base.__subclasses__():
        if derived is not TaughtMethod:
            yield derived
        yield from _below(derived)


METHODS = tuple(_below(Method))
