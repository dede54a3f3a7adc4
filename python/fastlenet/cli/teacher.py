"""--teacher: reads the networks from which another one learns."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fastlenet.models.loading import read_model
from fastlenet.training.teacher import Teacher

__all__ = ["read_teacher"]


def read_teacher(paths: Sequence[str], backend: ModuleType) -> Teacher:
    """Returns the networks in these files, as one teacher, which computes on the backend. Raises CheckpointError."""
    models = [read_model(path, ops=backend).model for path in paths]
    try:
        return Teacher(models)
    except (FieldError, ValueError) as error:
        raise CheckpointError(f"{', '.join(paths)}: {error}") from None
