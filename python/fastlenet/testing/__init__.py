"""Checks a backend against its contract. The checks come from descriptions of the ops, and need NumPy alone.

A test of your own backend is two lines::

    from fastlenet.testing import check_backend

    check_backend(my_backend)

It raises BackendError with one line for each failure. `OPS` has the description of every op, by name.
"""

from fastlenet.testing.check import BackendError, Check, Failure, Report, check_backend, checks_of
from fastlenet.testing.description import Op
from fastlenet.testing.registry import OPS

__all__ = ["OPS", "BackendError", "Check", "Failure", "Op", "Report", "check_backend", "checks_of"]
