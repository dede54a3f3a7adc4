"""Checks for whoever writes a backend, and the descriptions of the ops that they come from. They need NumPy alone.

import my_backend
from fastlenet.testing import check_backend

check_backend(my_backend)
"""

from fastlenet.testing.check import BackendError, Check, Failure, Report, check_backend, checks_of, gaps_of
from fastlenet.testing.description import Op
from fastlenet.testing.registry import OPS

__all__ = ["OPS", "BackendError", "Check", "Failure", "Op", "Report", "check_backend", "checks_of", "gaps_of"]
