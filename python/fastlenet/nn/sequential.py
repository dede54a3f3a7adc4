"""A model of layers in a row, and the buffers that they share."""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlenet import ops as kernel_ops
from fastlenet.backend import ALGORITHMS, NAMES, Array, Backend
from fastlenet.fields import Values, named
from fastlenet.formats.state import as_parameters, own_names
from fastlenet.inference.facts import ModelFacts, expect_example_shape
from fastlenet.inference.predictor import Predictor
from fastlenet.nn.context import Context, Workspace, Workspaces
from fastlenet.nn.described import Described, plain_kind
from fastlenet.nn.description import output_shape
from fastlenet.nn.frozen import Frozen
from fastlenet.nn.fusion import Step, plan, run_forward
from fastlenet.nn.layers.base import Layer
from fastlenet.nn.passes import Settings, TrainingPasses
from fastlenet.nn.precision import as_precision, rounding_ops
from fastlenet.nn.tensors import as_input
from fastlenet.philox import STREAM_INIT, uniform

if TYPE_CHECKING:
    import torch

    from fastlenet.inference.raw import RawImages
    from fastlenet.quantization import QuantizedModel

__all__ = ["Sequential"]

_PIECE = 1 << 16  # random numbers at a time, each of which takes 70 bytes while it is made


class Sequential(Described, Predictor):
    """A model of layers in a row. model(x) runs them, and model.backward(dy) fills the gradients. After the first pass, neither
    allocates memory, except for the output.

    layers: the layers, in order. names: their names in the state_dict, by default "0", "1", ... as in PyTorch. seed: an integer
    in 0..2^64-1, for dropout and for the initial parameters, which are uniform in +-1/sqrt(fan_in) as in PyTorch. ops: the
    backend.
    algorithm: the algorithm of fused convolutions, "direct" or "winograd", as in ops.conv2d_relu_max_pool2d_forward.
    precision: of the factors of products in fused convolutions and linear layers, except the last layer with parameters:
    "float32", or "bf16", by the ops of fastlenet.bf16. Parameters, gradients and sums stay float32. It may be set later.
    input_shape: the shape of one example, such as (1, 28, 28); `fit` sets it from its images.

    len(model), iteration, model[0] and model["conv1"] give the layers. `facts` is what the model knows about its images and
    classes; `fit` and `fastlenet.load` set it, and `save` writes it.

    Conv2d, ReLU and MaxPool2d in a row run as one fused op. In evaluation mode, after `eval()`, several threads may call the
    model at once. In training mode they may not, because the model keeps the activations of a forward pass for its backward
    pass.

    dropout_counter: the number of training passes so far; dropout's masks depend on it. first_of_batch: the place of x's first
    example in its batch; set it where you compute a batch in parts, with the same dropout_counter for all of them.
    """

    def __init__(
        self,
        *layers: Layer,
        names: Sequence[str] | None = None,
        seed: int = 0,
        ops: Backend[Any] = kernel_ops,
        algorithm: str = "direct",
        precision: str = "float32",
        input_shape: Sequence[int] | None = None,
    ) -> None:
        kind = type(self).__name__
        wrong = [type(layer).__name__ for layer in layers if not isinstance(layer, Layer)]
        if wrong:
            cure = "; unpack it: Sequential(*layers)" if wrong[0] in ("list", "tuple") else ""
            raise TypeError(f"{kind}: layers expects nn layers, got {wrong[0]}{cure}")
        missing = [name for name in NAMES if not hasattr(ops, name)]
        if missing:
            raise TypeError(f"{kind}: ops expects a module like fastlenet.ops, got {ops!r}, which has no {missing[0]}")
        self.layers = layers
        self.ops: Backend[Array] = ops
        self.names = _names(names, len(layers))
        self.seed: int = Values(int, "an integer in 0..2^64-1", 0, 2**64 - 1).convert(f"{kind}: seed", seed)
        self.algorithm: str = Values(str, choices=ALGORITHMS).convert(f"{kind}: algorithm", algorithm)
        self._precision = as_precision(kind, precision, ops)
        shape = None if input_shape is None else expect_example_shape(f"{kind}: input_shape", input_shape)
        self.facts = ModelFacts(shape)
        self.training = True
        self.dropout_counter = self.first_of_batch = 0
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

    @property
    def precision(self) -> str:
        """The precision of the factors of products: "float32" or "bf16". Raises TypeError or ValueError, in one line, if it is
        set to one that does not exist, or that the backend or this machine has not.
        """
        return self._precision

    @precision.setter
    def precision(self, value: str) -> None:
        self._precision = as_precision(type(self).__name__, value, self.ops)

    def level(self) -> str:
        """Returns the level on which the last bits of the model's outputs and gradients depend, that of its ops."""
        return (rounding_ops(self._precision, self.ops) or self.ops).level()

    # --- parameters ---

    def _flat_buffer(self) -> Array:
        buffer = self.ops.empty((sum(math.prod(shape) for shape in self._shapes.values()),))
        buffer.fill(0)
        return buffer

    def _views(self, buffer: Array) -> dict[str, Array]:
        views, start = {}, 0
        for name, shape in self._shapes.items():
            views[name] = buffer[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return views

    def _bind_views(self) -> None:
        self._parameters = self._views(self.parameter_buffer)
        self._gradients = self._views(self.gradient_buffer)
        self._workspaces = Workspaces(self.ops)
        self._passes = TrainingPasses(self._steps, self._parameters, self._gradients, self.ops)
        self._pass: FrameType | None = None  # the call that makes a training pass

    def _initialise(self) -> None:
        index = 0
        for name, layer in zip(self.names, self.layers, strict=True):
            for key, shape in layer.shapes().items():
                bound = 1 / math.sqrt(layer.fan_in())
                values = np.empty(math.prod(shape), np.float32)
                for first in range(0, len(values), _PIECE):
                    piece = values[first : first + _PIECE]
                    piece[:] = (2 * uniform(self.seed, STREAM_INIT, index, len(piece), first) - 1) * bound
                self._parameters[f"{name}.{key}"][...] = values.reshape(shape)
                index += 1

    def parameters(self) -> dict[str, Array]:
        """Returns the parameters by name. They are views of parameter_buffer: writing to them changes the model."""
        return dict(self._parameters)

    def gradients(self) -> dict[str, Array]:
        """Returns the gradients of the last backward pass by name, views of gradient_buffer."""
        return dict(self._gradients)

    def state_dict(self) -> dict[str, Array]:
        """Returns the parameters by name, as views. Copy them if training continues."""
        return self.parameters()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Copy in parameters by name.

        state: NumPy arrays or torch tensors of any float dtype. Names may have the prefixes of PyTorch's wrappers. Raises
        TypeError or ValueError, and then changes nothing, if arrays are missing, unexpected, of another shape, not floats, or
        not finite.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state expects a mapping from names to arrays, got {type(state).__name__}")
        given = {str(name): _as_array(name, value) for name, value in state.items()}
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
        """Switch to training mode: dropout is active, and you may call backward() after a forward pass. Returns the model."""
        self.training = True
        return self

    def eval(self) -> Sequential:
        """Switch to evaluation mode: dropout is the identity, and several threads and signal handlers may call the model at
        once.

        Returns the model.
        """
        self.training = False
        return self

    def __call__(self, x: Array) -> Array:
        """Returns the last layer's output for x, (n, ...) float32. The array belongs to the caller.

        x: a NumPy array, or a tensor in the host's memory, such as torch's on the CPU. A tensor is read by DLPack without a
        copy.
        In training mode, raises RuntimeError if a pass of this model is running: in a signal handler, a finaliser or another
        thread.
        """
        x = as_input("x", x)
        if self.training:
            self._expect_no_pass("the model")
            try:
                self._pass = sys._getframe()
                run, y = self._passes.forward(x, self._settings())
                self.note_forward_pass(run)
                return y
            finally:
                self._pass = None
        workspace = self._workspaces.take()
        try:
            return run_forward(self._steps, x, self._evaluation(workspace))
        finally:
            self._workspaces.give_back(workspace)

    def _evaluation(self, workspace: Workspace) -> Context:
        """The context of a pass in evaluation mode."""
        return Context(
            self.ops,
            workspace,
            self._parameters,
            algorithm=self.algorithm,
            rounding=rounding_ops(self._precision, self.ops),
        )

    def _expect_no_pass(self, what: str) -> None:
        """Raise RuntimeError within a training pass, since an inner pass would change the activations of the outer one."""
        if self._pass is not None and _runs(self._pass):
            raise RuntimeError(
                f"{what}: called within a training pass of the same model, by a signal handler, a finaliser or another thread; "
                "call a copy of it, or what freeze() returns"
            )

    def _settings(self) -> Settings:
        return Settings(self.ops, self.algorithm, self._precision, self.seed, self.first_of_batch, self.dropout_counter)

    def backward(self, dy: Array, *, need_dx: bool = False) -> Array | None:
        """Overwrite the gradients. dy: the gradient of the loss with respect to the output of the last model(x), of its shape.

        Returns the gradient with respect to x if need_dx, else None. The array belongs to the caller. Raises RuntimeError
        without a forward pass in training mode, or within another training pass; TypeError or ValueError for a wrong dy.
        """
        self._expect_no_pass("backward")
        try:
            self._pass = sys._getframe()
            return self._passes.backward(as_input("backward: dy", dy), need_dx)
        finally:
            self._pass = None

    def training_pass(self, x: Array, dy: Array) -> Context | None:
        """Returns the captured pass for these arrays, with the graphs "forward" and "backward", or None if it has not both.

        The caller launches them, and calls note_forward_pass between the two.
        """
        return self._passes.captured(x, dy, self._settings())

    def note_forward_pass(self, run: Context) -> None:
        """Note that a forward pass was made: backward() follows it, and the next one draws another mask of dropout."""
        self.dropout_counter += 1
        self._passes.last = run

    def freeze(self) -> Frozen:
        """Returns a copy of the model for inference, with its own parameters and without a backward pass."""
        buffer = self.ops.empty(self.parameter_buffer.shape)
        buffer[...] = self.parameter_buffer
        buffer.flags.writeable = False
        return Frozen(self._steps, self._views(buffer), self.ops, self.algorithm, self._precision)

    # --- raw images ---

    def activations(self, images: object) -> dict[str, Array]:
        """Returns the output of each layer for raw images, by the layer's name: float32 (n, ...), or (...) for one image.

        images: as in predict. Each layer runs alone, as in evaluation mode. With the algorithm "winograd" the last bits may
        therefore differ from the fused pass. Raises the errors of predict.

            >>> import fastlenet
            >>> from fastlenet.data import load_mnist
            >>> found = fastlenet.LeNet.pretrained().activations(load_mnist().test_images[:5])
            >>> found["conv1"].shape, found["fc2"].shape
            ((5, 20, 24, 24), (5, 10))
        """
        raw = self._raw("activations", images)
        found = self._activations("activations", raw)
        return {name: array[0] for name, array in found.items()} if raw.single else found

    def _activations(self, function: str, raw: RawImages) -> dict[str, Array]:
        x, found = self._input(function, raw), {}
        rounding, rounds = rounding_ops(self._precision, self.ops), {step.at for step in self._steps if step.rounds}
        for at, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            context = Context(self.ops, Workspace(self.ops), self._parameters, rounding=rounding)
            x = run_forward([Step(layer, at, name, rounds=at in rounds)], x, context)
            found[name] = np.asarray(x)
        return found

    def quantize(self, images: object) -> QuantizedModel:
        """Returns this network in integers of 8 bits, which predicts as this one; see fastlenet.quantization.quantize.

        images: a Dataset, or raw images as in predict; at most 500 training images give the range of each layer. Raises
        TypeError or ValueError, in one line.
        """
        from fastlenet.quantization import quantize

        return quantize(self, images)

    def to_torch(self) -> torch.nn.Sequential:
        """Returns this network as a torch.nn.Sequential of the same names and parameters, in evaluation mode.

        The parameters are copies. `model.load_state_dict(module.state_dict())` brings those of PyTorch back. The module takes
        what model(x) takes: images that are normalised, and preprocessed before, of which a UserWarning reminds. Raises
        ImportError without PyTorch, TypeError for a layer of your own or a class that computes otherwise, ValueError for a
        layer's name that PyTorch does not take, such as one with a dot.
        """
        from fastlenet.nn.torch_module import as_torch_module

        plain_kind(type(self), "to_torch")
        if self.preprocessing:
            message = f"to_torch: the module takes images that are preprocessed ({self.preprocessing}), and does not do so"
            warnings.warn(message, UserWarning, stacklevel=2)
        return as_torch_module(self.names, self.layers, {name: np.asarray(array) for name, array in self.state_dict().items()})

    @property
    def _known(self) -> ModelFacts:
        return self.facts

    @property
    def _networks(self) -> Sequence[Sequential]:
        return [self]

    def _outputs(self) -> int:
        return math.prod(output_shape(self.names, self.layers, self.facts.input_shape or ()))

    # --- copies ---

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in vars(self).items() if not key.startswith("_")} | {
            "ops": self.ops.__name__,
            "_shapes": self._shapes,
            "_precision": self._precision,
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, ops=importlib.import_module(str(state["ops"])))
        for name in ("parameter_buffer", "gradient_buffer"):  # NumPy does not keep the alignment
            kept = getattr(self, name)
            buffer = self.ops.empty(kept.shape)
            buffer[...] = kept
            setattr(self, name, buffer)
        self._steps = plan(self.layers, self.names)
        self._bind_views()


def _runs(call: FrameType) -> bool:
    """Whether a thread is in this call. One that Ctrl-C ended may have left no other trace of its end."""
    try:
        call.clear()  # Python refuses it while the call runs
    except RuntimeError:
        return True
    return False


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    """The layers' names, by default their numbers."""
    if names is None:
        return [str(i) for i in range(count)]
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Sequential: names expects a list of {count} words, got {names!r}")
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"Sequential: names expects {count} different names, got {names!r}")
    return list(names)


def _as_array(name: str, value: object) -> Array:
    """Converts an array or a torch tensor to a NumPy array."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy knows no bfloat16
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"load_state_dict: {named(name)} expects an array, got {type(value).__name__}") from None
