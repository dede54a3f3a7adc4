"""A small data set in a file, which workers read by its path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import Dataset


@pytest.fixture(scope="session")
def file(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 training and 200 test images of MNIST."""
    path = tmp_path_factory.mktemp("runs") / "few.npz"
    train, test = mnist.part("train"), mnist.part("test")
    arrays = {"x_train": train.images[:600], "y_train": train.labels[:600]}
    np.savez(path, **arrays, x_test=test.images[:200], y_test=test.labels[:200])
    return path
