"""The methods by which a stage can train, each in a module with its name.

To add one, write a module here (method.py says what it needs; kd.py is a short one) and name it in a preset's row.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Literal, get_origin

from fspkd.distill.method import Method

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def _below(base: type[Method]) -> Iterator[type[Method]]:
    for derived in base.__subclasses__():
        if get_origin(derived.model_fields["method"].annotation) is Literal:  # else a base class of methods
            yield derived
        yield from _below(derived)


METHODS = tuple(_below(Method))
