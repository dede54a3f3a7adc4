#!/usr/bin/env python3
"""Fail if a public name or method has no docstring, of its own or of its base class.

The ops of other backends need none: their contract stands in fastlenet.ops.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator

PARTS = ("augment", "cuda", "data", "models", "nn", "ops", "optim", "reference", "testing")
MODULES = ["fastlenet", *(f"fastlenet.{part}" for part in PARTS)]


def missing() -> Iterator[str]:
    ops = importlib.import_module("fastlenet.ops").__all__
    for module in map(importlib.import_module, MODULES):
        backend = module.__name__ in ("fastlenet.cuda", "fastlenet.reference")
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing) or (backend and name in ops):
                continue
            if not inspect.getdoc(thing):
                yield f"{module.__name__}.{name}"
            if not inspect.isclass(thing):
                continue
            for member in vars(thing):
                value = inspect.getattr_static(thing, member)
                documented = isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
                overrides = any(hasattr(base, member) for base in thing.__bases__)
                if documented and not overrides and not member.startswith("_") and not inspect.getdoc(getattr(thing, member)):
                    yield f"{module.__name__}.{name}.{member}"


def main() -> int:
    found = list(missing())
    for name in found:
        print(f"FAILED: {name} has no docstring: shapes, units, errors, source")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
