"""Names of layers may come from a file: whatever is in them, an error that names a parameter is one short line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import nn
from fastlenet.files import CheckpointError
from fastlenet.formats.parameters import save_model
from fastlenet.formats.state import expect_arrays

ODD = ["\xe9\n", "\x1b[31m", "n" * 3000, ""]


@pytest.mark.parametrize("name", ODD)
def test_errors_are_one_short_line(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), names=[name])
    weight, bias = f"{name}.weight", f"{name}.bias"
    good = {weight: np.zeros((3, 2), np.float32), bias: np.zeros(3, np.float32)}
    wrong: tuple[object, ...] = (
        None,
        [[1.0], [1.0, 2.0]],
        np.zeros(4),
        np.zeros(3, int),
        np.full(3, np.nan),
        np.full(3, 1e300),
    )
    states: list[dict[str, Any]] = [{}, {**good, f"{name}.other": np.zeros(1)}, *({**good, bias: value} for value in wrong)]
    calls: list[Callable[[], object]] = [partial(model.load_state_dict, state) for state in states]
    calls += [partial(expect_arrays, "state", {**good, bias: value}, good) for value in (np.zeros(3), np.full(3, np.nan))]
    calls.append(partial(save_model, tmp_path / "m", {bias: np.full(3, np.nan)}))
    many = nn.Sequential(*(nn.Linear(1, 1) for _ in range(500)))
    integers = {name: np.zeros(array.shape, int) for name, array in many.state_dict().items()}
    calls += [partial(many.load_state_dict, integers), partial(many.load_state_dict, {})]
    for call in calls:
        with pytest.raises((TypeError, ValueError, CheckpointError)) as caught:
            call()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ODD)
def test_errors_of_a_layer_are_one_short_line(name: str) -> None:
    """Also those of layers that are given what they cannot compute."""

    class Own(nn.Layer):
        """One that is not of the library, and whose forward pass returns nothing."""

        def forward(self, context: Any, x: Any) -> Any:
            return None

    image = np.zeros((1, 1, 4, 4), np.float32)
    linear, own = (nn.Sequential(layer, names=[name]) for layer in (nn.Linear(2, 3), Own()))
    calls = [partial(linear, image), partial(own, image), partial(linear.summary, (1, 4, 4)), partial(own.save, "m")]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 500
