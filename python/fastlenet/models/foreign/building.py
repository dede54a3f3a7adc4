"""Builds a network of fastlenet from the layers of another program, one after the other, and notes what was assumed."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import shown
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.layouts import channels_first
from fastlenet.models.lenet import LeNet
from fastlenet.models.lenet5 import LeNet5
from fastlenet.models.recognising import Note
from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
from fastlenet.nn.described import expect_fitting

__all__ = ["ACTIVATIONS", "Building", "Pair"]

Pair = tuple[int, int]

ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}


class Building:
    """A network in the making. shape: of one example behind the layers so far, (c, h, w) or (features,).

    notes: what the file does not say, and how it was taken. Raises ValueError for layers that do not fit.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = self.shape = input_shape
        self.names: list[str] = []
        self.layers: list[Layer] = []
        self.state: dict[str, Array] = {}
        self.notes: list[Note] = []
        self._factor, self._offset = np.float64(1), np.float64(0)
        self.is_normalised = False
        self.known = ModelFacts()  # what fastlenet wrote into the file; the layers decide where it differs
        self.white: float | None = None  # a white pixel in the program, 1 or 255, if the file says it
        self._flattened: Shape | None = None  # the (c, h, w) that the last Flatten took in the order (h, w, c)
        self._ended = ""

    # --- layers ---

    def add(self, name: str, layer: Layer) -> None:
        if self._ended:
            raise ValueError(f"layer {shown(name)} follows {self._ended}, which only a last layer may be")
        while name in self.names:
            name += "_"
        try:
            self.shape = layer.output_shape(self.shape)
        except ValueError as error:
            raise ValueError(f"layer {shown(name)}: {error}") from None
        self.names.append(name)
        self.layers.append(layer)

    def conv(self, name: str, weight: Array, bias: Array | None, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> None:
        """weight: (k, c, r, s). bias: (k,)."""
        self._expect_axes(name, weight, 4)
        k, c, r, s = weight.shape
        self.add(name, Conv2d(c, k, (r, s), stride, padding, bias=bias is not None))
        self._keep(weight, bias)

    def linear(self, name: str, weight: Array, bias: Array | None) -> None:
        """weight: (out, in), with its columns in the order in which the program flattens images. bias: (out,)."""
        self._expect_axes(name, weight, 2)
        if self._flattened is not None:
            if math.prod(self._flattened) != weight.shape[1]:
                raise ValueError(f"layer {shown(name)} expects {math.prod(self._flattened)} inputs, has {weight.shape[1]}")
            weight, self._flattened = channels_first(weight, self._flattened), None
        self.add(name, Linear(weight.shape[1], weight.shape[0], bias=bias is not None))
        self._keep(weight, bias)

    def pool(
        self, name: str, kind: type[MaxPool2d] | type[AvgPool2d], size: Pair, stride: Pair, padding: Pair = (0, 0)
    ) -> None:
        self.add(name, kind(size, stride, padding))

    def same_padding(self, name: str, size: Pair, stride: Pair) -> Pair:
        """The rows and columns of zeros, of both sides together, with which ceil(length / stride) windows fit."""
        if min(stride) < 1:
            raise ValueError(f"layer {shown(name)}: stride expects integers of at least 1, got {stride}")
        high, wide = (
            max((-(-length // step) - 1) * step + window - length, 0)
            for length, window, step in zip(self.shape[1:], size, stride, strict=True)
        )
        return high, wide

    def flatten(self, name: str, *, channels_last: bool = False) -> None:
        """channels_last: whether the program's images are (h, w, c), and are flattened in this order."""
        if len(self.shape) == 1:
            return
        if channels_last and self.shape[0] > 1 and self.shape[1:] != (1, 1):
            self._flattened = self.shape
        self.add(name, Flatten())

    def dropout(self, name: str, p: float) -> None:
        if p:
            self.add(name, Dropout(p))

    def activation(self, name: str, kind: str, slope: float = 0.0) -> None:
        """kind: "linear", "relu", "sigmoid", "tanh", "leaky_relu" with a slope, or "softmax" and "log_softmax" at the end."""
        if kind in ("softmax", "log_softmax"):  # predict_proba computes it; labels do not need it
            if len(self.shape) != 1:
                raise ValueError(f"layer {shown(name)}: a softmax expects scores of classes, got {self.shape}")
            self._ended = "a softmax"
        elif kind == "leaky_relu":
            self.add(name, LeakyReLU(slope))
        elif kind != "linear":
            if kind not in ACTIVATIONS:
                raise ValueError(f"layer {shown(name)}: the activation {shown(kind)} has no layer in fastlenet")
            self.add(name, ACTIVATIONS[kind]())

    def _expect_axes(self, name: str, weight: Array, axes: int) -> None:
        if weight.ndim != axes:
            raise ValueError(f"layer {shown(name)} expects weights of {axes} axes, got {weight.shape}")

    def _keep(self, weight: Array, bias: Array | None) -> None:
        self.state[f"{self.names[-1]}.weight"] = weight
        if bias is not None:
            self.state[f"{self.names[-1]}.bias"] = bias

    # --- normalisation ---

    def rescale(self, name: str, factor: object, offset: object = 0.0) -> None:
        """The program multiplies pixels by a factor and adds an offset, numbers or one for each channel."""
        if self.layers:
            raise ValueError(f"layer {shown(name)} scales what is no longer the image; only the first layers may do so")
        channels = self.shape[0] if len(self.shape) == 3 else 1
        factors, offsets = (np.asarray(value, np.float64).reshape(-1) for value in (factor, offset))
        for values in (factors, offsets):
            if values.size not in (1, channels) or not np.isfinite(values).all():
                raise ValueError(f"layer {shown(name)} expects a finite number, or one for each of {channels} channels")
        self._factor, self._offset = self._factor * factors, self._offset * factors + offsets
        self.is_normalised = True

    def leave_unscaled(self) -> None:
        """The program's pixels are in [0, 1]."""
        self.is_normalised, self.white = True, 1.0

    def _facts(self) -> ModelFacts:
        """What is known of the images: mean and std are for pixels scaled to [0, 1]."""
        known = replace(self.known, input_shape=self.input_shape)
        if not self.is_normalised:
            return known
        factor, offset = np.broadcast_arrays(np.atleast_1d(self._factor), np.atleast_1d(self._offset))
        if not (factor > 0).all():
            raise ValueError("the image is scaled by a factor that is not positive, which no standard deviation expresses")
        # A factor below a tenth scales pixels of 0..255; in [0, 1] they would all come to almost nothing.
        factor = factor * (255.0 if self.white is None and factor.min() < 0.1 else self.white or 1.0)
        mean, std = -offset / factor, 1 / factor
        if known.mean is not None and known.std is not None and np.allclose([mean - known.mean, std - known.std], 0, atol=1e-6):
            return known
        means, stds = (tuple(map(_short, values.tolist())) for values in (mean, std))
        if len({*zip(means, stds, strict=True)}) == 1:
            return replace(known, mean=means[0], std=stds[0])
        return replace(known, mean=means, std=stds)

    # --- the end ---

    def model(self, ops: ModuleType) -> Sequential:
        """Returns the network, in evaluation mode: a LeNet or LeNet5 if its layers are theirs, else a Sequential."""
        facts = self._facts()
        expect_fitting(facts, self.names, self.layers)
        model = self._named(ops)
        if model is None:
            model = Sequential(*self.layers, names=self.names, ops=ops, input_shape=self.input_shape)
            model.load_state_dict(self.state)
        else:
            model.load_state_dict(dict(zip(model.state_dict(), self.state.values(), strict=True)))
        model.facts = facts
        model.eval()
        return model

    def _named(self, ops: ModuleType) -> Sequential | None:
        """A LeNet or LeNet5 with the same layers, or None."""
        if len(self.shape) != 1 or len(self.input_shape) != 3 or len(self.state) not in (8, 10):
            return None
        rates = [layer.p for layer in self.layers if isinstance(layer, Dropout)]
        rates = rates if len(rates) == 2 else [*rates, 0.0][:1] * 2
        for kind in (LeNet, LeNet5):
            for fc1, rest in (rates, (0.0, rates[0]), (rates[0], 0.0)):
                try:
                    size, classes = self.input_shape, self.shape[0]
                    model = kind(input_shape=size, classes=classes, dropout=rest, dropout_fc1=fc1, ops=ops)
                except ValueError:  # for smaller images
                    continue
                if repr(list(model.layers)) == repr(self.layers):
                    return model
        return None


def _short(number: float) -> float:
    """The shortest number that float32 does not tell from it: 0.1307, not 0.13069999999999998. Another zero than -0.0."""
    return float(str(np.float32(number))) + 0.0 if abs(number) < 1e30 else number
