"""The model that a command is given."""

from __future__ import annotations

import warnings
from types import ModuleType

from fastlenet import ops as kernel_ops
from fastlenet.models.ensemble import Ensemble
from fastlenet.models.lenet import LeNet
from fastlenet.models.loading import load
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel
from fastlenet.streams import one_line, tell

__all__ = ["Model", "load_model"]

Model = Sequential | Ensemble | QuantizedModel


def load_model(path: str | None, prog: str, *, ops: ModuleType = kernel_ops) -> Model:
    """The model of a file, or the one that the package carries. What is guessed of a file is said in a line."""
    if path is None:
        return LeNet.pretrained(ops=ops)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = load(path, ops=ops)
    for warning in told:
        tell(f"{prog}: {one_line(str(warning.message))}")
    return model
