"""What models and ensembles compute from raw images: labels, probabilities, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import Values, integer
from fastlenet.inference.facts import ModelFacts
from fastlenet.inference.forward import BATCH_SIZE, Network, averaged
from fastlenet.normalisation import PerChannel

if TYPE_CHECKING:
    from fastlenet.data.dataset import Part
    from fastlenet.inference.judged import Judged
    from fastlenet.inference.raw import RawImages
    from fastlenet.inference.scores import Evaluation

__all__ = ["Predictor"]

_FLAG = Values(bool)


class Predictor:
    """Predicts from raw images by the facts that it has."""

    @property
    def _known(self) -> ModelFacts:
        raise NotImplementedError

    def _outputs(self) -> int:
        """The number of classes."""
        raise NotImplementedError

    @property
    def _networks(self) -> Sequence[Network]:
        raise NotImplementedError

    @property
    def _weights(self) -> Sequence[float] | None:
        """With which the networks count; None counts all alike."""
        return None

    def predict(self, images: object, *, batch_size: int = BATCH_SIZE, tta: bool = False) -> Any:
        """Returns the label of each image, (n,): words or integers, as the training labels were; or one label for one image.

        images: raw images, or one image, as an array or anything that becomes one. A model for 28x28 gray images takes
        (n, 28, 28), (n, 1, 28, 28), (n, 28, 28, 1) or (n, 784). Pixels are uint8 or other integers in 0..255, or floats in
        [0, 1] or [0, 255]. Do not normalise them: the model does so by its own mean and standard deviation.
        batch_size: the number of images at a time, which bounds the memory.
        tta: average the probabilities of each image and its four shifts by one pixel.

        The model's mode does not change. Raises TypeError or ValueError, in one line, for images that do not fit the model and
        for a model that does not know how its images are normalised.

            >>> import fastlenet
            >>> from fastlenet.data import load_mnist
            >>> fastlenet.LeNet.pretrained().predict(load_mnist().test_images[:3])
            array([7, 2, 1])
        """
        raw = self._raw("predict", images)
        numbers = self._probabilities("predict", raw, batch_size, tta).argmax(axis=1)
        labels = np.asarray(self._known.class_names)[numbers] if self._known.class_names else numbers
        return labels[0].item() if raw.single else labels

    def predict_proba(self, images: object, *, batch_size: int = BATCH_SIZE, tta: bool = False) -> Array:
        """Returns the probability of each class, float64 (n, classes) in the order of class_names; (classes,) for one image.

        Arguments and errors are those of predict.
        """
        raw = self._raw("predict_proba", images)
        probabilities = self._probabilities("predict_proba", raw, batch_size, tta)
        return probabilities[0] if raw.single else probabilities

    def evaluate(
        self,
        data: object,
        labels: object = None,
        *,
        part: Part | None = None,
        batch_size: int = BATCH_SIZE,
        tta: bool = False,
    ) -> Evaluation:
        """Returns accuracy, loss and confusion matrix on images whose labels are known.

        data: images as in predict, with a label for each as `labels`; or a Dataset.
        part: the part of the Dataset; by default "test", or "validation" if there are no test images.
        labels: class names, or the numbers of the classes if their names are words.
        batch_size, tta, errors: as in predict.

            >>> import fastlenet
            >>> from fastlenet.data import load_mnist
            >>> data = load_mnist()
            >>> fastlenet.LeNet.pretrained().evaluate(data.test_images[:500], data.test_labels[:500])
            Evaluation(accuracy 99.60%, 95 % in 98.55%..99.89%, loss 0.0531, 500 images)
        """
        return self._judged("evaluate", data, labels, part, batch_size, tta).evaluation

    def _judged(self, function: str, data: object, labels: object, part: Part | None, batch_size: int, tta: bool) -> Judged:
        """What a function of that name, with the arguments of evaluate, judges the model by."""
        from fastlenet.inference.judged import Judged  # here, since it imports data sets
        from fastlenet.inference.raw import labelled, numbers_of

        names = self._known.class_names
        images, given = labelled(function, data, labels, part, names)
        raw = self._raw(function, images)
        numbers = numbers_of(f"{function}: labels", given, len(raw.images), names, self._outputs())
        return Judged(raw, numbers, self._probabilities(function, raw, batch_size, tta), names)

    def _raw(self, function: str, images: object) -> RawImages:
        from fastlenet.inference.raw import RawImages

        shape = self._known.input_shape
        if shape is None or len(shape) != 3:
            takes = "does not know the shape of its images" if shape is None else f"takes examples of shape {shape}, not images"
            cure = "; fit sets it, or call model.set_facts(input_shape=(1, 28, 28))" if shape is None else "; call it: model(x)"
            raise ValueError(f"{function}: the model {takes}{cure}")
        return RawImages.of(f"{function}: images", images, shape)

    def _probabilities(self, function: str, raw: RawImages, batch_size: int, tta: bool) -> Array:
        batch_size = integer(f"{function}: batch_size", batch_size, 1)
        tta = _FLAG.convert(f"{function}: tta", tta)
        self._normalisation(function)
        return self._averaged(raw, batch_size, tta)

    def _averaged(self, raw: RawImages, batch_size: int, tta: bool) -> Array:
        """The class probabilities of all images, float64 (n, classes)."""
        mean, std = self._normalisation("predict")
        return averaged(self._networks, raw.batches(batch_size), mean=mean, std=std, tta=tta, weights=self._weights)

    def _input(self, function: str, raw: RawImages) -> Array:
        """All images, preprocessed and normalised, as the first network takes them."""
        mean, std = self._normalisation(function)
        (images,) = raw.batches(len(raw.images))
        first = self._networks[0]
        views = first.preprocessing.views(images) if first.preprocessing else None
        return first.ops.gather_images(images, np.arange(len(images)), mean=mean, std=std, transform=views)

    def _normalisation(self, function: str) -> tuple[PerChannel, PerChannel]:
        mean, std = self._known.mean, self._known.std
        if mean is None or std is None:
            cure = "fit sets this, or call model.set_facts(mean=..., std=...)"
            raise ValueError(f"{function}: the model does not know how its images are normalised; {cure}")
        return mean, std
