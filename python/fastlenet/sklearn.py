"""LeNet as a classifier of scikit-learn: for pipelines, searches and cross-validation.

Needs scikit-learn: `pip install 'fastlenet[sklearn]'`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.config import own_threads
from fastlenet.data.arrays import expect_share
from fastlenet.data.dataset import Dataset
from fastlenet.data.images import Images, arranged, mean_std
from fastlenet.data.splitting import held_out
from fastlenet.fields import FieldTypeError, FieldValueError, Values, integer
from fastlenet.inference.forward import BATCH_SIZE, logits_of, softmax
from fastlenet.models.lenet import LeNet
from fastlenet.normalisation import PerChannel
from fastlenet.training.callbacks import EarlyStopping
from fastlenet.training.fit import fit
from fastlenet.training.history import History
from fastlenet.training.recipe import Recipe, named_recipe

try:
    from joblib.parallel import get_active_backend
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import Tags, check_random_state, compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"fastlenet.sklearn needs scikit-learn 1.6 or newer ({error}); pip install 'fastlenet[sklearn]'"
    ) from None

__all__ = ["LeNetClassifier"]

_LEAST_SIDE = 4  # of an image that LeNet takes
_BYTES = 0.0, 255.0  # the range of bytes, whichever of them occur
_SWITCH = Values(bool)

Labels = npt.NDArray[np.generic]


class _Pixels(NamedTuple):
    """How rows of X become images: their shape, and the range of their numbers, which becomes 0..1. Others become 0 or 1."""

    shape: tuple[int, int, int]
    low: float
    high: float

    def images(self, X: Array) -> Images:
        """(n, h, w), or (n, c, h, w). Bytes stay bytes where the range is theirs. Short rows end in pixels of 0."""
        c, h, w = self.shape
        shape = (len(X), h, w) if c == 1 else (len(X), c, h, w)
        if X.dtype != np.uint8 or (self.low, self.high) != _BYTES:
            X = np.clip((X - self.low) / ((self.high - self.low) or 1.0), 0, 1).astype(np.float32)
        rows: Images = np.pad(X, ((0, 0), (0, c * h * w - X.shape[1])))
        return np.ascontiguousarray(rows.reshape(shape))


class _Known(NamedTuple):
    """What a network is trained for."""

    classes: Labels
    pixels: _Pixels


class LeNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A LeNet as a classifier of scikit-learn: `fit(X, y)`, `predict(X)`, `score(X, y)`, in pipelines and searches too.

    X: images (n, h, w), (n, c, h, w) or (n, h, w, c), or rows of pixels (n, h*w). They are bytes, or numbers of any range:
    `fit` scales numbers so that the smallest one in the training images becomes 0 and the largest one 1.
    In other images, a smaller number counts as 0, and a larger one as 1.
    y: labels of any kind, (n,).
    With the same random_state, the results have the same bits for any number of threads.

    recipe: a Recipe, or the name of one in fastlenet.RECIPES.
    epochs, batch_size, shift, lr: fields of the recipe; None keeps the recipe's value.
    image_shape: the shape of an image, (h, w) or (c, h, w), if X has rows. None makes each row a square image. If a row does
    not fill a square, it is filled up with zeros.
    class_weight: None, "balanced", or a dict from labels to weights.
    early_stopping: hold out validation_fraction of the training images whose weight is above 0, the same share of each class;
    stop after n_iter_no_change epochs without a better accuracy on them; keep the weights of the best epoch.
    warm_start: start `fit` from the weights of the last `fit`. Classes and image shape must be the same.
    random_state: None, an int or a RandomState. It decides the initial weights, the order of the images, augmentation and
    dropout.
    threads: the number of threads. None is one thread inside a worker of joblib, such as GridSearchCV with n_jobs starts, since
    other workers run at the same time. Elsewhere None is the number that set_num_threads set.
    verbose: as in fastlenet.fit.

    After `fit`: classes_, n_features_in_, model_ (the LeNet, in evaluation mode), history_, n_iter_ (epochs), loss_ and
    loss_curve_ (the training loss), validation_scores_ and best_validation_score_ (accuracies; None without early_stopping).
    Raises, when `fit` is called, scikit-learn's errors for X and y, and TypeError or ValueError for a parameter.

        >>> from sklearn.datasets import load_digits
        >>> from fastlenet.sklearn import LeNetClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = LeNetClassifier(epochs=3, random_state=0).fit(X[:1000], y[:1000])
        >>> classifier.score(X[1000:], y[1000:]) > 0.9
        True
    """

    classes_: Labels
    model_: LeNet
    history_: History
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _pixels_: _Pixels
    _mean_std_: tuple[PerChannel, PerChannel]
    _shape_of_images: tuple[int, ...] | None

    def __init__(
        self,
        *,
        recipe: str | Recipe = "default",
        epochs: int | None = 10,
        batch_size: int | None = 32,
        shift: int | None = 0,
        lr: float | None = None,
        image_shape: Sequence[int] | None = None,
        class_weight: str | dict[object, float] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        threads: int | None = None,
        verbose: int | str = 0,
    ) -> None:
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.shift = shift
        self.lr = lr
        self.image_shape = image_shape
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose

    # --- training --------------------------------------------------------------------------------------------------------

    def fit(self, X: object, y: object, sample_weight: object = None) -> LeNetClassifier:
        """Train a LeNet on the images X, (n, ...), and their labels y, (n,). sample_weight: (n,) weights of their losses."""
        again = _SWITCH.convert("warm_start", self.warm_start) and hasattr(self, "model_")
        rows, labels = self._checked(X, y, reset=True)
        classes, numbers = np.unique(labels, return_inverse=True)
        if again and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start expects the classes of the last fit, {self.classes_}, got {classes} in y")
        pixels = self._pixels(rows)
        if again and pixels.shape != self._pixels_.shape:
            raise ValueError(f"warm_start expects images of the last fit's shape, {self._pixels_.shape}, got {pixels.shape}")
        known = _Known(classes, self._pixels_ if again else pixels)
        self._train(rows, numbers, labels, sample_weight, self._recipe(), known, model=self.model_ if again else None)
        return self

    def partial_fit(self, X: object, y: object, classes: object = None, sample_weight: object = None) -> LeNetClassifier:
        """Train for one epoch on X and y, starting from the current weights, at the recipe's peak learning rate.

        classes: all labels that will ever occur. The first call needs them; later calls may repeat them. The first call also
        fixes the range of the pixels. The momentum starts anew in each call. sample_weight: as for fit.
        class_weight="balanced" balances each call's own labels. early_stopping has no effect.
        """
        again = hasattr(self, "model_")
        if classes is None and not again:
            raise ValueError("classes must be passed on the first call to partial_fit: an array of all labels there will be")
        known = self.classes_ if classes is None else np.unique(np.asarray(classes))
        if again and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes expects those of the first call, {self.classes_}, got {known}")
        rows, labels = self._checked(X, y, reset=not again)
        numbers = np.searchsorted(known, labels).clip(max=len(known) - 1)
        if not np.array_equal(known[numbers], labels):
            strange = sorted(set(labels.tolist()) - set(known.tolist()))
            raise ValueError(f"y expects labels that are in classes, {known}, got {strange}")
        recipe = replace(self._recipe(), epochs=1)
        of_call = _Known(known, self._pixels_ if again else self._pixels(rows))
        self._train(rows, numbers, labels, sample_weight, recipe, of_call, model=getattr(self, "model_", None), more=True)
        return self

    def _train(
        self,
        rows: Array,
        numbers: npt.NDArray[np.int64],
        labels: Labels,
        sample_weight: object,
        recipe: Recipe,
        known: _Known,
        *,
        model: LeNet | None,
        more: bool = False,
    ) -> None:
        """Train a new model, or the one given. more: go on with the curves of earlier calls.

        What was fitted before stays whole if the training is refused.
        """
        weights = self._weights(labels, sample_weight)
        recipe = replace(recipe, seed=int(check_random_state(self.random_state).randint(2**31 - 1)))
        stays, out = self._validation(numbers, weights, recipe.seed) if not more else (np.arange(len(numbers)), np.arange(0))
        images = known.pixels.images(rows)
        mean, std = mean_std(images[stays]) if model is None else self._mean_std_
        data = Dataset(
            "X",
            images[stays],
            numbers[stays],
            images[:0],
            numbers[:0],
            len(known.classes),
            mean,
            std,
            images[out],
            numbers[out],
            tuple(map(str, known.classes)),
            _labels_of(known.classes),
        )
        callbacks = [EarlyStopping("val_accuracy", patience=self.n_iter_no_change, restore_best=True)] if len(out) else []
        if model is None:
            model = LeNet.of(recipe, input_shape=data.input_shape, classes=data.classes)
        with self._own_threads():
            history = fit(
                model,
                data,
                recipe=recipe,
                sample_weight=None if weights is None else weights[stays],
                callbacks=callbacks,
                schedule=_constant if more else None,
                verbose=self.verbose,
                evaluate_every_epoch=bool(callbacks),
            )
        self.classes_, self._pixels_ = known
        self.model_, self._mean_std_ = model, (mean, std)
        self._keep(history, more)

    def _keep(self, history: History, more: bool) -> None:
        self.history_ = history
        self.loss_curve_ = (self.loss_curve_ if more and hasattr(self, "loss_curve_") else []) + history.history["loss"]
        self.n_iter_ = len(self.loss_curve_)
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else math.nan
        scores = history.history.get("val_accuracy")
        self.validation_scores_ = scores
        self.best_validation_score_ = max(scores) if scores else None

    def _recipe(self) -> Recipe:
        if not isinstance(self.recipe, (str, Recipe)):
            raise FieldTypeError("recipe", self.recipe, "a Recipe, or the name of one")
        recipe = named_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        return replace(
            recipe,
            epochs=recipe.epochs if self.epochs is None else self.epochs,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            shift=recipe.shift if self.shift is None else self.shift,
            lr=recipe.lr if self.lr is None else self.lr,
        )

    def _weights(self, labels: Labels, sample_weight: object) -> npt.NDArray[np.float64] | None:
        """The product of the weights of the images and of their classes, or None if all are 1."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weights.shape == ():
            weights = np.full(len(labels), weights)
        if weights.shape != (len(labels),):
            raise ValueError(f"sample_weight expects shape ({len(labels)},), one weight for each image, got {weights.shape}")
        if not weights.any():
            raise ValueError("sample_weight expects a weight above zero for at least one image, got zero for all")
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, labels)
        return weights

    def _validation(
        self, numbers: npt.NDArray[np.int64], weights: npt.NDArray[np.float64] | None, seed: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The places of the images to train on, and of those to validate on. Images of weight 0 are not validated on."""
        everywhere = np.arange(len(numbers))
        if not _SWITCH.convert("early_stopping", self.early_stopping):
            return everywhere, everywhere[:0]
        integer("n_iter_no_change", self.n_iter_no_change, 1)
        seen = everywhere if weights is None else np.flatnonzero(weights)
        if len(seen) < 2:
            raise ValueError(f"early_stopping expects at least two images of a weight above 0, got {len(seen)}")
        count = expect_share("validation_fraction", self.validation_fraction, len(seen))
        _, out = held_out(numbers[seen], count, stratify=True, seed=seed)
        return np.delete(everywhere, seen[out]), seen[out]

    def _own_threads(self) -> AbstractContextManager[None]:
        """A context in which this classifier's threads compute."""
        backend, _ = get_active_backend()
        in_worker = (backend.nesting_level or 0) > 0
        if self.threads is None:
            return own_threads(1) if in_worker else nullcontext()
        return own_threads(integer("threads", self.threads, 1))

    # --- prediction ------------------------------------------------------------------------------------------------------

    def predict(self, X: object) -> Labels:
        """Returns the label of each image, (n,), as the labels were in y."""
        best = self._logits(X).argmax(axis=1)
        predicted: Labels = self.classes_[best]
        return predicted

    def predict_proba(self, X: object) -> Array:
        """Returns the probability of each class, float64 (n, classes), in the order of classes_. A row sums to 1."""
        return softmax(self._logits(X))

    def predict_log_proba(self, X: object) -> Array:
        """Returns the logarithms of the probabilities, float64 (n, classes)."""
        logits = self._logits(X).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return logs

    def decision_function(self, X: object) -> Array:
        """Returns the network's outputs, float32 (n, classes); for two classes, the second output minus the first, (n,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def _logits(self, X: object) -> Array:
        check_is_fitted(self, "model_")
        images = self._pixels_.images(self._checked(X, reset=False)[0])
        starts = range(0, len(images), BATCH_SIZE)
        with self._own_threads():
            return np.concatenate(
                [logits_of(self.model_, images[start : start + BATCH_SIZE], *self._mean_std_) for start in starts]
            )

    # --- checks ----------------------------------------------------------------------------------------------------------

    def _checked(self, X: object, y: object = None, *, reset: bool) -> tuple[Array, Labels]:
        """The rows of X, uint8 or floats, and the labels of y, if there are any, after scikit-learn's checks."""
        dimensions = np.ndim(X) if isinstance(X, (list, tuple)) else getattr(X, "ndim", 2)
        if dimensions in (3, 4):
            images = arranged("X", X)
            shape = (1, *images.shape[1:]) if images.ndim == 3 else images.shape[1:]
            if reset:
                self._shape_of_images = shape
            elif shape != (known := self._shape_of_images or self._pixels_.shape):
                raise ValueError(f"X expects images of shape {known}, as the training images, or rows, got shape {shape}")
            X = images.reshape(len(images), -1)
        elif reset:
            self._shape_of_images = None
        dtypes = (np.float32, np.float64, np.uint8)  # the first is what others become
        if y is None and not reset:
            return validate_data(self, X, dtype=dtypes, reset=False), np.empty(0)
        rows, labels = validate_data(self, X, y, dtype=dtypes, reset=reset)
        check_classification_targets(labels)
        return rows, labels

    def _pixels(self, rows: Array) -> _Pixels:
        low, high = _BYTES if rows.dtype == np.uint8 else (float(rows.min()), float(rows.max()))
        return _Pixels(self._image_shape(rows.shape[1]), low, high)

    def _image_shape(self, features: int) -> tuple[int, int, int]:
        """(c, h, w) of the images that rows of so many features are."""
        shape = self._shape_of_images
        if self.image_shape is not None:
            if not isinstance(self.image_shape, (Sequence, np.ndarray)):
                raise FieldTypeError("image_shape", self.image_shape, "(h, w) or (c, h, w)")
            shape = tuple(integer("image_shape", side, 1) for side in self.image_shape)
        if shape is None:
            side = max(_LEAST_SIDE, math.isqrt(features - 1) + 1)
            return 1, side, side
        if len(shape) not in (2, 3) or math.prod(shape) != features:
            expected = f"(h, w) or (c, h, w) whose product is {features}, the number of features"
            raise FieldValueError("image_shape", self.image_shape, expected)
        c, h, w = shape if len(shape) == 3 else (1, *shape)
        return c, h, w

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _labels_of(classes: Labels) -> tuple[int, ...]:
    """What model_ answers for each class: integers where the labels are; () for its name."""
    return tuple(classes.tolist()) if classes.dtype.kind in "iu" and np.can_cast(classes.dtype, np.int64) else ()


def _constant(step: int, steps: int) -> float:
    return 1.0
