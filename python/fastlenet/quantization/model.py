"""A quantized network: it predicts with the methods of the network that it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array, Shape
from fastlenet.fields import FieldValueError
from fastlenet.inference.facts import Label, ModelFacts
from fastlenet.inference.forward import Network, shifted, shifts, softmax
from fastlenet.inference.predictor import Predictor
from fastlenet.inference.raw import RawImages
from fastlenet.normalisation import PerChannel
from fastlenet.quantization.kernels import Kernels
from fastlenet.quantization.layers import Bytes, QuantizedLayer
from fastlenet.quantization.saving import save

__all__ = ["QuantizedModel"]


class QuantizedModel(Predictor):
    """A frozen network of integers, which `quantize` makes. predict, predict_proba, evaluate: as those of the network.

    layers: the QuantizedLayers in order; the last gives float32 scores (n, classes). facts: as the network's. network: the name
    of its class.
    """

    def __init__(self, layers: Sequence[QuantizedLayer], facts: ModelFacts, network: str) -> None:
        if facts.preprocessing:
            got = str(facts.preprocessing)
            raise FieldValueError("preprocessing", facts.preprocessing, "none: a quantized network takes raw images", got=got)
        self.layers = tuple(layers)
        self.facts = facts
        self.network = network
        self._kernels = Kernels(self.layers, facts.input_shape or ())

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[QuantizedLayer]:
        return iter(self.layers)

    def __repr__(self) -> str:
        lines = [f"  ({layer.name}): {type(layer).__name__} -> {layer.output_shape}" for layer in self.layers]
        return "\n".join([f"QuantizedModel(  # of a {self.network}", *lines, ")"])

    @property
    def input_shape(self) -> Shape | None:
        """The shape (c, h, w) of one image."""
        return self.facts.input_shape

    @property
    def mean(self) -> PerChannel | None:
        """The mean, or one for each channel, that normalised the network's pixels; the integers contain it."""
        return self.facts.mean

    @property
    def std(self) -> PerChannel | None:
        """The standard deviation, as mean."""
        return self.facts.std

    @property
    def class_names(self) -> tuple[Label, ...]:
        """The label of each score. Empty if they are not known."""
        return self.facts.class_names

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file. `fastlenet.load` reads it, and the commands take it as any model.

        If the file exists, it is replaced as a whole. Raises CheckpointError if it cannot be written.

            >>> import fastlenet
            >>> from fastlenet.data import load_mnist
            >>> data = load_mnist()
            >>> fastlenet.LeNet.pretrained().quantize(data).save("int8.safetensors")
            >>> fastlenet.load("int8.safetensors").predict(data.test_images[:3])
            array([7, 2, 1])
        """
        save(path, self.layers, self.facts, self.network)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays: weights, biases, multipliers and tables."""
        arrays = (value for layer in self.layers for value in vars(layer).values() if isinstance(value, np.ndarray))
        return sum(array.nbytes for array in arrays)

    def logits(self, images: Bytes) -> npt.NDArray[np.float32]:
        """Returns the scores of raw images, float32 (n, classes). images: uint8 (n, c, h, w)."""
        if images.dtype != np.uint8 or images.shape[1:] != self.facts.input_shape:
            expected = f"uint8 images (n, {', '.join(map(str, self.facts.input_shape or ()))})"
            raise ValueError(f"logits: images expects {expected}, got {images.dtype} {images.shape}")
        return self._kernels(images)

    def activations(self, images: object) -> dict[str, Array]:
        """Returns the output of each layer for raw images, by the layer's name; the last is float32, all others are uint8.

        images: as in predict; (n, ...) for n images, (...) for one.
        """
        raw = self._raw("activations", images)
        passed = self._pass(self._as_bytes(next(raw.batches(len(raw.images)))))
        return {name: y[0] if raw.single else y for name, y in passed}

    def _pass(self, images: Bytes) -> Iterator[tuple[str, npt.NDArray[np.uint8 | np.float32]]]:
        """Each layer's name and output, from the first to the last."""
        x: npt.NDArray[np.uint8 | np.float32] = images
        for layer in self.layers:
            x = layer(x)  # type: ignore[arg-type]  # only the last gives floats
            yield layer.name, x

    def _as_bytes(self, images: Array) -> Bytes:
        """uint8 (n, c, h, w) of a batch of raw images: floats in [0, 1] become the nearest byte."""
        if images.dtype != np.uint8:
            images = np.rint(images * np.float32(255)).astype(np.uint8)
        return images.reshape(len(images), *(self.facts.input_shape or ()))

    @property
    def _known(self) -> ModelFacts:
        return self.facts

    @property
    def _networks(self) -> Sequence[Network]:
        raise NotImplementedError  # it predicts by itself

    def _outputs(self) -> int:
        return self.layers[-1].output_shape[0]

    def _averaged(self, raw: RawImages, batch_size: int, tta: bool) -> Array:
        means = []
        for batch in raw.batches(batch_size):
            seen = [softmax(self.logits(self._as_bytes(shifted(batch, *shift)))) for shift in shifts(tta)]
            means.append(np.sum(seen, axis=0) / len(seen))
        return np.concatenate(means)
