"""Checks a backend against its contract. The checks come from descriptions of the ops, and need NumPy alone.

import my_backend
from fastlenet.testing import check_backend

check_backend(my_backend)
"""

from fastlenet.testing.check import BackendError, Check, Failure, Report, check_backend, checks_of
from fastlenet.testing.description import Op
from fastlenet.testing.registry import OPS

__all__ = ["OPS", "BackendError", "Check", "Failure", "Op", "Report", "check_backend", "checks_of"]
