"""Layers in a row, and the buffers that they share."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fastlenet import ops as kernel_ops
from fastlenet.nn.frozen import Frozen
from fastlenet.nn.layers import Layer
from fastlenet.nn.plan import plan, replayable, run_forward
from fastlenet.nn.running import Array, Pass, Workspace
from fastlenet.nn.state import as_parameters, own_names
from fastlenet.nn.summary import summarise
from fastlenet.philox import STREAM_INIT, uniform

__all__ = ["Sequential"]


class Sequential:
    """Layers in a row. model(x) runs them, model.backward(dy) fills the gradients; both free of allocation once warm.

    layers: the layers, in order. names: their names in the state_dict, by default "0", "1", ... as in PyTorch. seed: of the
    initialisation (PyTorch's default: uniform in +-1/sqrt(fan_in), weights and biases) and of dropout. ops: the backend.
    algorithm: of the fused convolutions, "direct" or "winograd"; see ops.conv2d_relu_max_pool2d_forward.

    Conv2d, ReLU and MaxPool2d in a row run as one fused op. In evaluation (after `eval()`) calls are safe from several
    threads at once; training keeps the activations of one forward pass for its backward pass, and is not.
    """

    def __init__(
        self,
        *layers: Layer,
        names: Sequence[str] | None = None,
        seed: int = 0,
        ops: ModuleType = kernel_ops,
        algorithm: str = "direct",
    ) -> None:
        self.layers = layers
        self.names = [str(i) for i in range(len(layers))] if names is None else list(names)
        if len(self.names) != len(layers) or len(set(self.names)) != len(layers):
            raise ValueError(f"Sequential: names expects {len(layers)} different names, got {self.names}")
        if algorithm not in ("direct", "winograd"):
            raise ValueError(f"Sequential: algorithm expects 'direct' or 'winograd', got {algorithm!r}")
        self.seed, self.ops, self.algorithm = seed, ops, algorithm
        self.training = True
        self.dropout_counter = 0
        self._steps = plan(layers, self.names)
        self._shapes = {
            f"{name}.{key}": shape
            for name, layer in zip(self.names, layers, strict=True)
            for key, shape in layer.shapes().items()
        }
        self.parameter_buffer = self._flat_buffer()
        self.gradient_buffer = self._flat_buffer()
        self._bind_views()
        self._initialise()

    # --- parameters ---

    def _flat_buffer(self) -> Array:
        buffer = self.ops.empty((sum(math.prod(shape) for shape in self._shapes.values()),))
        buffer.fill(0)
        return buffer  # type: ignore[no-any-return]

    def _views(self, buffer: Array) -> dict[str, Array]:
        views, start = {}, 0
        for name, shape in self._shapes.items():
            views[name] = buffer[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return views

    def _bind_views(self) -> None:
        self._parameters = self._views(self.parameter_buffer)
        self._gradients = self._views(self.gradient_buffer)
        self._workspace = Workspace(self.ops)
        self._thread = threading.local()
        self._last: Pass | None = None

    def _initialise(self) -> None:
        index = 0
        for name, layer in zip(self.names, self.layers, strict=True):
            for key, shape in layer.shapes().items():
                bound = 1 / math.sqrt(layer.fan_in())
                numbers = uniform(self.seed, STREAM_INIT, index, math.prod(shape))
                self._parameters[f"{name}.{key}"][...] = ((2 * numbers - 1) * bound).reshape(shape)
                index += 1

    def parameters(self) -> dict[str, Array]:
        """The parameters by name: views of parameter_buffer, through which they can be written."""
        return dict(self._parameters)

    def gradients(self) -> dict[str, Array]:
        """The gradients of the last backward pass by name: views of gradient_buffer."""
        return dict(self._gradients)

    def state_dict(self) -> dict[str, Array]:
        """The parameters by name, as views: save them, or copy them if the training goes on."""
        return self.parameters()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy in parameters by name: NumPy arrays or torch tensors, of any float dtype, also of a network wrapped by PyTorch.

        Raises ValueError and then changes nothing, where some are missing, unexpected, misshapen, not floats, or not finite.
        """
        given = {name: _as_array(value) for name, value in state.items()}
        names = own_names(given, self._parameters)
        arrays = {names[name]: array for name, array in given.items()}
        try:
            arrays = as_parameters(arrays, self._parameters)
        except ValueError as error:
            raise ValueError(f"load_state_dict: {error}") from None
        for name, array in arrays.items():
            self._parameters[name][...] = array

    # --- running ---

    def train(self) -> Sequential:
        """Training mode: dropout drops, and a forward pass can be followed by backward()."""
        self.training = True
        return self

    def eval(self) -> Sequential:
        """Evaluation mode: dropout is the identity, and calls are safe from several threads at once."""
        self.training = False
        return self

    def __call__(self, x: Array) -> Array:
        """x: (n, ...) float32 -> the last layer's output, an array of the caller's own."""
        if not self.training:
            run = Pass(self.ops, self._thread_workspace(), self._parameters, False, algorithm=self.algorithm)
            return run_forward(self._steps, x, run)
        last = self._last
        if last is None or last.backend is not self.ops or last.algorithm != self.algorithm or not last.replay("forward", x):
            last = self._last = self._training_pass(x)
        self.dropout_counter += 1
        assert last.result is not None
        return last.result.copy() if last.replays else last.result

    def _training_pass(self, x: Array) -> Pass:
        run = Pass(self.ops, self._workspace, self._parameters, True, self.seed, self.dropout_counter, algorithm=self.algorithm)
        run.gradients = self._gradients
        run.replays = self.ops is kernel_ops and replayable(self._steps)
        with run.record("forward", x):
            run.result = run_forward(self._steps, x, run)
        return run

    def _thread_workspace(self) -> Workspace:
        if not hasattr(self._thread, "workspace"):
            self._thread.workspace = Workspace(self.ops)
        return self._thread.workspace  # type: ignore[no-any-return]

    def backward(self, dy: Array, *, need_dx: bool = False) -> Array | None:
        """Fill the gradients (overwriting them) from dy, the loss's gradient by the output of the last model(x).

        Returns the gradient by x if need_dx, else None. Raises RuntimeError without a forward pass in training mode.
        """
        run = self._last
        if run is None or run.result is None:
            raise RuntimeError("backward: call the model in training mode first; it needs the activations of that pass")
        if dy.shape != run.result.shape:
            raise ValueError(f"backward: dy expects shape {run.result.shape}, as the output, got {dy.shape}")
        if need_dx:
            return self._backward(dy, run, need_dx=True)
        if not run.replay("backward", dy):
            with run.record("backward", dy):
                self._backward(dy, run, need_dx=False)
        return None

    def _backward(self, dy: Array, run: Pass, *, need_dx: bool) -> Array | None:
        gradient: Array | None = dy
        for step in reversed(self._steps):
            assert gradient is not None
            wanted = need_dx or step is not self._steps[0]
            gradient = step.layer.backward(gradient, run, step.at, step.name, wanted)
            if gradient is None:
                break
        return gradient

    def freeze(self) -> Frozen:
        """A snapshot for inference: its own copy of the parameters, callable, without a backward pass."""
        buffer = self.ops.empty(self.parameter_buffer.shape)
        buffer[...] = self.parameter_buffer
        buffer.flags.writeable = False
        return Frozen(self._steps, self._views(buffer), self.ops, self.algorithm)

    # --- looking at it ---

    def summary(self, input_shape: Sequence[int]) -> str:
        """A table of the layers, for one example of input_shape (c, h, w): output, parameters, multiply-adds, bytes."""
        return summarise(self.layers, self.names, tuple(input_shape))

    def __repr__(self) -> str:
        lines = [f"  ({name}): {layer!r}" for name, layer in zip(self.names, self.layers, strict=True)]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not key.startswith("_")} | {
            "ops": self.ops.__name__,
            "_shapes": self._shapes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, ops=importlib.import_module(state["ops"]))
        for name in ("parameter_buffer", "gradient_buffer"):  # NumPy does not keep the alignment
            buffer = self.ops.empty(state[name].shape)
            buffer[...] = state[name]
            setattr(self, name, buffer)
        self._steps = plan(self.layers, self.names)
        self._bind_views()


def _as_array(value: Any) -> Array:
    """A NumPy array of what may be a torch tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()  # NumPy knows no bfloat16
    return np.asarray(value)
