"""Class probabilities of images: the mean over several networks and, with test-time augmentation, over shifted images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from fastlenet.backend import Array, Backend
from fastlenet.normalisation import PerChannel
from fastlenet.preprocessing import Preprocessing

__all__ = ["BATCH_SIZE", "Network", "averaged", "evaluating", "expect_finite", "logits_of", "shifted", "shifts", "softmax"]

BATCH_SIZE = 250  # the default number of images at a time; their activations stay below 10 MB

_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


class Network(Protocol):
    """A model, as Sequential is."""

    ops: Backend[Array]
    training: bool

    @property
    def preprocessing(self) -> Preprocessing: ...

    def __call__(self, x: Array) -> Array: ...

    def eval(self) -> object: ...

    def parameters(self) -> dict[str, Array]: ...


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """A context in which the network is in evaluation mode; then it has its own mode again."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.training = training


def expect_finite(network: Network) -> None:
    """Raise ValueError for an infinity or NaN in a parameter, since NaN scores would silently give the first class."""
    odd = [name for name, array in network.parameters().items() if not np.isfinite(array).all()]
    if odd:
        raise ValueError(f"model expects finite parameters, got NaN or infinity in {', '.join(odd)}")


def averaged(
    networks: Sequence[Network],
    batches: Iterable[Array],
    *,
    mean: PerChannel | Sequence[float],
    std: PerChannel | Sequence[float],
    tta: bool = False,
    weights: Sequence[float] | None = None,
) -> Array:
    """Returns the class probabilities of all batches' images, float64 (N, classes).

    networks: at least one, of the same classes; each preprocesses the images in its own way. batches: at least one, each as
    gather_images takes it, as mean and std. tta: average over each image and its four shifts by one pixel. weights: with which
    the networks count, of sum 1; None counts all alike. Raises ValueError for images that do not fit a network and for a
    network whose parameters are not finite.
    """
    for network in networks:
        expect_finite(network)
    means = []
    for batch in batches:
        kinds = {network.preprocessing for network in networks}
        looks = {kind: _looks(batch, kind, tta) for kind in kinds}
        seen = [softmax(_logits(net, *look, mean, std)) for net in networks for look in looks[net.preprocessing]]
        if weights is None:
            means.append(np.sum(seen, axis=0) / len(seen))
        else:
            of_networks = np.stack(seen).reshape(len(networks), -1, *seen[0].shape).mean(axis=1)
            means.append(np.tensordot(np.asarray(weights), of_networks, axes=1))
    return np.concatenate(means)


Look = tuple[Array, Array | None]  # images, and the maps by which they are sampled


def _looks(images: Array, preprocessing: Preprocessing, tta: bool) -> list[Look]:
    """The preprocessed images, and with tta their four shifts by one pixel."""
    if not preprocessing:
        return [(shifted(images, down, right), None) for down, right in shifts(tta)]
    views = preprocessing.views(images)
    looks: list[Look] = []
    for down, right in shifts(tta):
        moved = views.copy()  # pixel (i, j) is what the preprocessed image has at (i - down, j - right)
        moved[:, :, 2] -= views[:, :, :2] @ np.array([down, right], np.float32)
        looks.append((images, moved))
    return looks


def logits_of(network: Network, images: Array, mean: PerChannel | Sequence[float], std: PerChannel | Sequence[float]) -> Array:
    """Returns the outputs (n, classes) for a batch, in evaluation mode. images, mean, std: as gather_images takes them.

    Raises ValueError for images that do not fit the network, and for a network with outputs of another shape.
    """
    return _logits(network, *_looks(images, network.preprocessing, tta=False)[0], mean, std)


def _logits(
    network: Network,
    images: Array,
    views: Array | None,
    mean: PerChannel | Sequence[float],
    std: PerChannel | Sequence[float],
) -> Array:
    """The same of images that are sampled by these views, if there are any."""
    x = network.ops.gather_images(images, np.arange(len(images)), mean=mean, std=std, transform=views)
    with evaluating(network):
        logits = np.asarray(network(x))
    if logits.ndim != 2:
        raise ValueError(f"model expects to give scores (n, classes), got an output of shape {logits.shape}")
    return logits


def shifts(tta: bool) -> Sequence[tuple[int, int]]:
    """The shifts, down and right, of each image: with test-time augmentation by one pixel in each direction too."""
    return _SHIFTS if tta else _SHIFTS[:1]


def shifted(images: Array, down: int, right: int) -> Array:
    """Returns images (n, h, w) or (n, c, h, w), moved by at most one pixel, with zeros at the border."""
    if (down, right) == (0, 0):
        return images
    h, w = images.shape[-2:]
    framed = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)])
    return np.ascontiguousarray(framed[..., 1 - down : 1 - down + h, 1 - right : 1 - right + w])


def softmax(logits: Array) -> Array:
    """Returns the class probabilities, float64 (n, classes), of logits (n, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
