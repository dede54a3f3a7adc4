"""A teacher: trained networks, from whose probabilities another network learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastlenet.augment import Transform, with_views
from fastlenet.backend import Array, Backend
from fastlenet.data.dataset import Dataset
from fastlenet.fields import FieldError, FieldTypeError, FieldValueError
from fastlenet.inference.forward import BATCH_SIZE, expect_finite
from fastlenet.inference.predictor import Predictor
from fastlenet.nn import Sequential

__all__ = ["Teacher"]

_EXPECTED = "a trained Sequential, an Ensemble, or a list of them"
_CURE = "fit sets this, or call teacher.set_facts(mean=..., std=...)"


class Teacher:
    """The mean of the probabilities of one or several networks, as of an ensemble.

    networks: a Sequential, an Ensemble, or a list of them. All networks count the same, but for an ensemble with weights: its
    members share by these what its networks count together. They are copied. Each preprocesses the
    images as it does in prediction, normalises them by its own mean and standard deviation, and computes by its own algorithm
    and precision.
    fingerprint: a checksum of all that decides the probabilities, but for the level of the ops. level: that of all networks.
    Raises FieldTypeError, FieldValueError or, for parameters that are not finite, ValueError.
    """

    def __init__(self, networks: object) -> None:
        listed = _listed(networks)
        self.networks = [network for network, _ in listed]
        self._shares = [share for _, share in listed]
        for number, network in enumerate(self.networks):
            if network.mean is None or network.std is None:
                expected = "a model that knows how its images are normalised"
                raise FieldValueError(_named(number), network, expected, cure=_CURE, got="one that does not")
            try:
                expect_finite(network)
            except ValueError as error:
                raise ValueError(f"{_named(number)}: {error}") from None
        self._frozen = [network.freeze() for network in self.networks]
        self.fingerprint = _fingerprint(listed)
        self.level = ", ".join(sorted({network.level() for network in self.networks}))

    def __len__(self) -> int:
        return len(self.networks)

    def expect_fit(self, data: Dataset) -> None:
        """Try the networks on one training image. Raises FieldValueError for one of other images or classes."""
        shape = data.input_shape
        for number, network in enumerate(self.networks):
            wanted = f"a model of images of shape {shape} and {data.classes} classes, as {data.name} has"
            if network.input_shape is not None and tuple(network.input_shape) != shape:
                raise FieldValueError(_named(number), network, wanted, got=f"one of images of shape {network.input_shape}")
            known = network.class_names
            if len(known) == data.classes:
                pairs = ((str(there), str(here)) for there, here in zip(known, data.class_labels, strict=True))
                there, here = next(((there, here) for there, here in pairs if there != here), ("", ""))
                if there != here:
                    expected = f"a model of the data's classes, in their order: {here!r}"
                    raise FieldValueError(_named(number), network, expected, got=repr(there))
            try:
                found = _scores(network.ops, self._frozen[number], network, data.train_images[:1], np.arange(1), None).shape
            except (FieldError, ValueError) as error:
                raise FieldValueError(_named(number), network, wanted, got=f"one that refuses them ({error})") from None
            if found != (1, data.classes):
                classes = f"{found[1]} classes" if len(found) == 2 else f"outputs of shape {found[1:]}"
                raise FieldValueError(_named(number), network, wanted, got=f"one of {classes}")

    def log_probabilities(self, data: Dataset, transform: Transform | None, proceed: Callable[[int], bool]) -> Array | None:
        """Returns the logarithms of the probabilities of all training images, distorted by the transform: float32 (N, classes).

        proceed: called after each part, with the number of its images; if it returns False, the result is None.
        """
        count = len(data.train_images)
        images = [_where_computed(network.ops, data.train_images) for network in self.networks]
        views = [network.preprocessing.kept_views(data.train_images) for network in self.networks]
        transforms = [
            with_views(transform, None if seen is None else _where_computed(network.ops, seen))
            for network, seen in zip(self.networks, views, strict=True)
        ]
        found: Array = np.empty((count, data.classes), np.float32)
        for start in range(0, count, BATCH_SIZE):
            index = np.arange(start, min(start + BATCH_SIZE, count))
            total: Array | None = None
            for network, frozen, here, shown, share in zip(
                self.networks, self._frozen, images, transforms, self._shares, strict=True
            ):
                if share == 0:
                    continue
                scores = _scores(network.ops, frozen, network, here, index, shown).astype(np.float64)
                scores -= scores.max(axis=1, keepdims=True)
                scores += math.log(share) - np.log(np.exp(scores).sum(axis=1, keepdims=True))
                total = scores if total is None else np.logaddexp(total, scores)
            assert total is not None
            found[index] = total - math.log(math.fsum(self._shares))
            if not proceed(len(index)):
                return None
        return found


def _named(number: int) -> str:
    return f"teacher[{number}]"


def _listed(given: object) -> list[tuple[Sequential, float]]:
    """The networks, one by one, and what each counts: 1 on the average."""
    parts = [given] if isinstance(given, Predictor) or not isinstance(given, Sequence) else list(given)
    if not parts:
        raise FieldValueError("teacher", given, "at least one model")
    networks: list[tuple[Sequential, float]] = []
    for number, part in enumerate(parts):
        members = [part] if isinstance(part, Sequential) else getattr(part, "members", None)
        if not isinstance(members, list) or not all(isinstance(member, Sequential) for member in members):
            name = "teacher" if part is given else _named(number)
            raise FieldTypeError(name, part, _EXPECTED, got=type(part).__name__)
        weights = None if isinstance(part, Sequential) else getattr(part, "weights", None)
        shares = [1.0] * len(members) if weights is None else [float(weight) * len(members) for weight in weights]
        networks += zip(members, shares, strict=True)
    return networks


def _fingerprint(networks: Sequence[tuple[Sequential, float]]) -> str:
    import hashlib  # loads OpenSSL

    digest = hashlib.sha256()
    for network, share in networks:
        layers = [f"{name} {layer!r}" for name, layer in zip(network.names, network.layers, strict=True)]
        facts = (
            type(network).__name__,
            layers,
            network.mean,
            network.std,
            network.algorithm,
            network.precision,
            str(network.preprocessing),
        )
        digest.update(repr((*facts, share)).encode())
        digest.update(np.ascontiguousarray(np.asarray(network.parameter_buffer), "<f4").data)
    return digest.hexdigest()


def _where_computed(ops: Backend[Array], images: Array) -> Array:
    """The images; on a GPU a copy there, which would otherwise be made for every part."""
    if not ops.Graph.captures_steps:
        return images
    copy = ops.empty(images.shape, images.dtype)
    copy[...] = images
    return copy


def _scores(
    ops: Backend[Array],
    frozen: Callable[[Array], Array],
    network: Sequential,
    images: Array,
    index: Array,
    transform: Transform | None,
) -> Array:
    mean, std = network.mean, network.std
    assert mean is not None and std is not None
    return np.asarray(frozen(ops.gather_images(images, index, mean=mean, std=std, transform=transform)))
