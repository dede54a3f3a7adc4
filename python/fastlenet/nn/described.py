"""What a model says about itself: its layers by name, a summary, the facts about its images and classes, a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fastlenet.backend import PRECISIONS, Array
from fastlenet.fields import FieldTypeError, FieldValueError, nearest, shown
from fastlenet.inference.facts import Label, ModelFacts, expect_example_shape
from fastlenet.nn.description import OF_YOUR_OWN, described_layers, output_shape
from fastlenet.nn.layers.base import Layer
from fastlenet.nn.summary import as_html, summarise
from fastlenet.normalisation import PerChannel
from fastlenet.preprocessing import Preprocessing

__all__ = ["Described", "expect_fitting", "plain_kind"]

_LIBRARY = "fastlenet"


class Described:
    """The part of a Sequential that describes it. facts: what the model knows about its images and classes."""

    layers: tuple[Layer, ...]
    names: list[str]
    seed: int
    algorithm: str
    precision: str
    facts: ModelFacts = ModelFacts()

    def state_dict(self) -> dict[str, Array]:
        raise NotImplementedError

    # --- its layers ---

    def __len__(self) -> int:
        return len(self.layers)

    def __bool__(self) -> bool:
        return True  # without layers too, unlike a list

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, key: int | str) -> Layer:
        """Returns a layer by its name or its position. Raises KeyError, which suggests the nearest name, or IndexError."""
        if isinstance(key, str):
            if key not in self.names:
                near = nearest(key, self.names)
                cure = f"did you mean {near!r}?" if near else f"the layers are {', '.join(self.names)}"
                raise KeyError(f"no layer {shown(key)}; {cure}")
            return self.layers[self.names.index(key)]
        if isinstance(key, slice) or not hasattr(key, "__index__"):
            raise FieldTypeError("layer", key, "a name or a position", f"{type(self).__name__}: ")
        if not -len(self.layers) <= key < len(self.layers):
            raise IndexError(f"no layer {key}; there are {len(self.layers)} layers")
        return self.layers[key]

    # --- what it knows ---

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one example, (c, h, w) of an image; None if the model does not know it yet."""
        return self.facts.input_shape

    @property
    def mean(self) -> PerChannel | None:
        """The mean, or one mean for each channel, that normalises pixels scaled to [0, 1]; None if it is not known."""
        return self.facts.mean

    @property
    def std(self) -> PerChannel | None:
        """The standard deviation that normalises pixels, in the same form as mean."""
        return self.facts.std

    @property
    def class_names(self) -> tuple[Label, ...]:
        """The label of each output, as the training labels were: words or integers. Empty if they are not known."""
        return self.facts.class_names

    @property
    def preprocessing(self) -> Preprocessing:
        """What predict, predict_proba, evaluate and activations do to each image before they normalise it. The model itself,
        as a function, takes images that are preprocessed and normalised.
        """
        return self.facts.preprocessing

    @property
    def recipe(self) -> Mapping[str, bool | int | float | str] | None:
        """The fields of the recipe that trained the model, or None: `Recipe(**model.recipe)` is the recipe."""
        return self.facts.recipe

    def set_facts(
        self,
        *,
        input_shape: Sequence[int] | None = None,
        mean: PerChannel | Sequence[float] | Array | None = None,
        std: PerChannel | Sequence[float] | Array | None = None,
        class_names: Sequence[Label] | Array | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        """Set facts about the model's images and classes. Facts that are not given stay. `fit` sets them from its data set.

        input_shape: the shape of one example, such as (1, 28, 28). mean, std: they normalise pixels scaled to [0, 1]; a number,
        or one for each channel. class_names: the label of each output, all words or all integers. preprocessing: what is done
        to each image before. Raises TypeError or ValueError, and then changes nothing.
        """
        given = {"input_shape": input_shape, "mean": mean, "std": std, "class_names": class_names}
        changes = {name: _tuple(value) for name, value in given.items() if value is not None}
        if preprocessing is not None:
            changes["preprocessing"] = preprocessing
        facts = replace(self.facts, **changes)  # type: ignore[arg-type]  # which checks them
        expect_fitting(facts, self.names, self.layers)
        self.facts = facts

    def summary(self, input_shape: Sequence[int] | None = None) -> str:
        """Returns a table of the layers: output shape, parameters, multiply-adds and bytes for one example.

        input_shape: of one example, such as (1, 28, 28), by default the model's. Raises TypeError or ValueError if the layers
        cannot take it.
        """
        if input_shape is None:
            if self.input_shape is None:
                cure = "summary((1, 28, 28)), or Sequential(..., input_shape=(1, 28, 28)); fit sets it too"
                raise FieldValueError("input_shape", None, "the shape of one example", "summary: ", cure)
            shape = self.input_shape
        else:
            shape = expect_example_shape("summary: input_shape", input_shape)
        return summarise(self.layers, self.names, shape)

    def __repr__(self) -> str:
        lines = [f"  ({name}): {layer!r}" for name, layer in zip(self.names, self.layers, strict=True)]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def _repr_html_(self) -> str:
        """A table of the layers, for notebooks."""
        return as_html(type(self).__name__, self.layers, self.names, self.input_shape)

    # --- a file ---

    def metadata(self) -> dict[str, str]:
        """Returns what a file says about the model: its architecture and its facts, each as JSON.

        Raises TypeError for a layer that is not of the library, and ValueError if the facts do not fit the layers.
        """
        import json  # here, since only files need it

        kind = type(self)
        if kind.__module__.partition(".")[0] != _LIBRARY:
            kind = plain_kind(kind, "save")
        expect_fitting(self.facts, self.names, self.layers)
        architecture = {
            "network": kind.__name__,
            "layers": described_layers(self.names, self.layers),
            "seed": self.seed,
            "algorithm": self.algorithm,
        }
        if self.precision != PRECISIONS[0]:
            architecture["precision"] = self.precision
        return {"architecture": json.dumps(architecture), **self.facts.as_metadata()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: parameters, architecture and facts. `fastlenet.load` reads it.

        PyTorch's users can load the parameters too. If the file exists, it is replaced as a whole. Raises TypeError for a layer
        that is not of the library, and CheckpointError if the file cannot be written or a parameter is not finite.
        """
        from fastlenet.formats.parameters import save_model  # here, since it imports files and their locks

        save_model(path, self.state_dict(), self.metadata())


def plain_kind(kind: type, function: str) -> type:
    """Returns the library's class that stands for a user's class. Raises TypeError for a class that computes otherwise."""
    base = next(base for base in kind.__mro__ if base.__module__.partition(".")[0] == _LIBRARY)
    odd = [name for name in ("__call__", "backward") if getattr(kind, name) is not getattr(base, name)]
    if odd:
        raise TypeError(f"{function}: {kind.__name__} defines {odd[0]}, which no file can describe; {OF_YOUR_OWN}")
    return base


def _tuple(value: object) -> object:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return tuple(value.tolist())
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value


def expect_fitting(facts: ModelFacts, names: Sequence[str], layers: Sequence[Layer]) -> None:
    """Raise ValueError unless the layers take examples of the facts' shape and give a score for each of its classes."""
    if facts.input_shape is None:
        return
    outputs = output_shape(names, layers, facts.input_shape)
    if facts.class_names and outputs != (len(facts.class_names),):
        expected = f"a name for each of the model's outputs, {outputs}"
        raise FieldValueError("class_names", facts.class_names, expected, got=f"{len(facts.class_names)}")
