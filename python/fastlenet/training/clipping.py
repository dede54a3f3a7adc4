"""Gradient clipping."""

from __future__ import annotations

from fastlenet.backend import Array
from fastlenet.nn import Sequential

__all__ = ["GradientClip"]


class GradientClip:
    """Scales a model's gradient down to a norm of `most`, over all parameters together, where it is larger.

    Like the optimizers, it calls ops on the flat buffers alone, so that a GPU's step can be captured with it.
    Source: Pascanu et al. 2013.
    """

    def __init__(self, model: Sequential, most: float) -> None:
        self._model, self._most = model, most
        shape = model.gradient_buffer.shape
        self._zeros: Array = model.ops.empty(shape)
        self._zeros.fill(0)
        self._scaled: Array = model.ops.empty(shape)

    def apply(self) -> None:
        """Clip the gradient of the last backward pass."""
        ops, gradient = self._model.ops, self._model.gradient_buffer
        squares, _ = ops.squared_error(gradient, self._zeros, out=self._scaled)
        factor = ops.inverse_root(squares, at_least=self._most**2) * self._most
        self._scaled.fill(0)
        ops.sgd_step(self._scaled, gradient, None, lr=factor * -1.0)
        gradient[...] = self._scaled
