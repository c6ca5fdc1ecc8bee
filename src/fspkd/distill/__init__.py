"""The methods that a stage can train by, each in a module with its name.

To add one: a module here (method.py says what is in it; kd.py is a short one), and a row of a preset that names it.
"""

import importlib
import pkgutil

from fspkd.distill.method import Method, TaughtMethod

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

METHODS = tuple(
    method for base in (Method, TaughtMethod) for method in base.__subclasses__() if method is not TaughtMethod
)
