"""The numbers of a report, against computations of their own."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import Ensemble, LeNet, nn
from fastlenet.data import Dataset
from fastlenet.nn.timing import step_seconds
from fastlenet.profiling import Profiler
from fastlenet.reports import Report
from fastlenet.reports.calibration import Calibration
from fastlenet.reports.label_errors import LABEL_ERRORS, known_label_errors
from fastlenet.training.history import Epoch, History

Images = Any


@pytest.fixture(scope="module")
def of_mnist(mnist: Dataset) -> Report:
    return fastlenet.report(LeNet.pretrained(), mnist)


def test_the_numbers_of_evaluate(of_mnist: Report, mnist: Dataset) -> None:
    """A report and an evaluation are computed from the same predictions."""
    expected = LeNet.pretrained().evaluate(mnist)
    assert of_mnist.evaluation.as_dict() == expected.as_dict()
    assert (of_mnist.accuracy, of_mnist.interval, of_mnist.loss) == (expected.accuracy, expected.interval, expected.loss)
    assert (of_mnist.confusion_matrix == expected.confusion_matrix).all() and of_mnist.class_names == tuple(range(10))
    assert (of_mnist.precision == expected.precision).all() and (of_mnist.recall == expected.recall).all()
    assert repr(of_mnist).startswith("Report(Evaluation(accuracy 99.62%")


def test_tta_parts_and_batches(mnist: Dataset) -> None:
    few = Dataset("few", mnist.train_images[:80], mnist.train_labels[:80], *mnist.part("test"), 10, mnist.mean, mnist.std)
    model = LeNet.pretrained()
    found = fastlenet.report(model, few, part="train", tta=True, batch_size=7)
    assert found.evaluation.as_dict() == model.evaluate(few, part="train", tta=True, batch_size=7).as_dict()
    assert (found.subject.part, found.subject.tta, found.subject.data) == ("train", True, "few")


def test_the_errors(of_mnist: Report, mnist: Dataset) -> None:
    """All images that were taken for another class, by the probability of that class."""
    probabilities = LeNet.pretrained().predict_proba(mnist.test_images)
    expected = []
    for index, (row, label) in enumerate(zip(probabilities, mnist.test_labels, strict=True)):
        if row.argmax() != label:
            expected.append((row.max(), index, label, row.argmax(), row[label]))
    expected.sort(key=lambda entry: -entry[0])
    found = [(e.probability, e.index, e.label, e.predicted, e.probability_of_label) for e in of_mnist.errors]
    assert found == expected and len(found) == int(of_mnist.evaluation.count - of_mnist.evaluation.correct)
    assert all((error.image == mnist.test_images[error.index]).all() for error in of_mnist.errors)


# --- calibration ---


@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_calibration(bins: int, rng: np.random.Generator) -> None:
    """The definition of Guo et al. 2017, image by image."""
    logits = 2 * rng.normal(size=(500, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 4, 500)
    groups: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, labels, strict=True):
        groups.setdefault(math.ceil(row.max() * bins) - 1, []).append((row.max(), row.argmax() == label))
    error = 0.0
    found = Calibration.of(probabilities, labels, bins)
    for number in range(bins):
        group = groups.get(number, [])
        assert found.counts[number] == len(group)
        if not group:
            assert math.isnan(found.accuracy[number]) and math.isnan(found.confidence[number])
            assert all(map(math.isnan, found.intervals[number]))
            continue
        accuracy = sum(right for _, right in group) / len(group)
        confidence = math.fsum(sure for sure, _ in group) / len(group)
        assert found.accuracy[number] == accuracy and found.confidence[number] == pytest.approx(confidence, rel=1e-12)
        assert found.intervals[number][0] <= accuracy <= found.intervals[number][1]
        error += len(group) / 500 * abs(accuracy - confidence)
    assert found.expected_error == pytest.approx(error, rel=1e-12) and found.counts.sum() == 500


def test_an_edge_belongs_to_the_bin_below() -> None:
    probabilities = np.array([[0.5, 0.5], [0.5 + 1e-9, 0.5 - 1e-9], [1.0, 0.0]])
    assert Calibration.of(probabilities, np.zeros(3, int), 2).counts.tolist() == [1, 2]


def test_a_model_that_is_as_sure_as_right() -> None:
    """Of five images with 80 %, four are right: no error. With 90 %, the error is 10 %."""
    labels = np.array([0, 0, 0, 0, 1])
    assert Calibration.of(np.full((5, 2), [0.8, 0.2]), labels).expected_error == pytest.approx(0, abs=1e-15)
    assert Calibration.of(np.full((5, 2), [0.9, 0.1]), labels).expected_error == pytest.approx(0.1)


# --- the known label errors ---


def test_the_list_is_of_this_test_set(mnist: Dataset) -> None:
    """15 images, each with the label that the authors' list gives it, and five votes, of which at most two for the label."""
    assert len(LABEL_ERRORS) == 15
    for error in LABEL_ERRORS:
        image = np.ascontiguousarray(mnist.test_images[error.index])
        assert hashlib.md5(image.tobytes(), usedforsecurity=False).hexdigest() == error.md5
        assert mnist.test_labels[error.index] == error.label != error.guess
        assert sum(error.votes) == 5 and error.votes[0] <= 2


def test_they_are_found_by_their_pixels(of_mnist: Report, mnist: Dataset) -> None:
    assert sorted(of_mnist.label_errors) == [error.index for error in LABEL_ERRORS]
    marked = {error.index for error in of_mnist.errors if error.label_error is not None}
    assert marked == {error.index for error in of_mnist.errors} & set(of_mnist.label_errors) and 947 in marked


@pytest.mark.parametrize("scale", [1, 255])
def test_in_any_order_and_as_floats(scale: int, mnist: Dataset) -> None:
    places = np.array([5, 947, 2462])
    images = (mnist.test_images[places] / (255 // scale)).astype(np.float32)
    found = known_label_errors(images, mnist.test_labels[places], scale=scale)
    assert {place: error.index for place, error in found.items()} == {1: 947, 2: 2462}


def test_in_no_other_data(mnist: Dataset) -> None:
    """Not in the training images, not in the same images with one pixel or the label changed, not in colours."""
    assert known_label_errors(mnist.train_images[:2000], mnist.train_labels[:2000]) == {}
    image = mnist.test_images[947:948].copy()
    assert known_label_errors(image, np.array([9])) == {} and len(known_label_errors(image, np.array([8]))) == 1
    image[0, 0, 0] += 1
    assert known_label_errors(image, np.array([8])) == {}
    assert known_label_errors(np.zeros((1, 3, 28, 28), np.uint8), np.array([8])) == {}


def test_what_people_saw() -> None:
    words = {error.index: str(error) for error in LABEL_ERRORS}
    assert words[947] == "5 of 5 people saw a 9"
    assert words[2654] == "3 of 5 people saw neither a 6 nor a 1, 2 a 1"
    assert words[2130] == "2 of 5 people saw a 9, 2 a 4, 1 neither a 4 nor a 9"


# --- inside ---


def test_filters_and_activations(of_mnist: Report, mnist: Dataset) -> None:
    model = LeNet.pretrained()
    probabilities = model.predict_proba(mnist.test_images)
    assert {name: array.shape for name, array in of_mnist.filters.items()} == {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5)}
    assert (of_mnist.filters["conv2"] == model.state_dict()["conv2.weight"]).all()
    assert [example.index for example in of_mnist.examples[:3]] == [error.index for error in of_mnist.errors[:3]]
    for example in of_mnist.examples:
        expected = model.activations(mnist.test_images[example.index])
        assert list(example.activations) == list(expected)
        assert all((example.activations[name] == array).all() for name, array in expected.items())
        assert (example.probabilities == probabilities[example.index]).all()
    least = of_mnist.examples[3]  # the right answer that the model was least sure of
    right = probabilities.argmax(axis=1) == mnist.test_labels
    assert least.label == least.predicted and least.probabilities.max() == probabilities[right].max(axis=1).min()


def test_dark_pixels_keep_their_scale() -> None:
    """An image of 0 and 1 among bytes is nearly black, in its activations as in its prediction."""
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 9, 9], images[1, 9, 9] = 1, 255
    model = LeNet.pretrained()
    found = fastlenet.report(model, images, [1, 1, 1])
    by_index = {example.index: example.activations["fc2"] for example in found.examples}
    assert np.abs(by_index[0] - by_index[2]).max() < 0.01 < np.abs(by_index[1] - by_index[2]).max()
    assert np.abs(by_index[0].argmax() - model.predict_proba(images)[0].argmax()) == 0


def test_costs_and_times(of_mnist: Report) -> None:
    """The costs of the summary, and a time for each op, that of the fused ones together."""
    rows = [line.split() for line in LeNet.pretrained().summary().splitlines()]
    for cost, row in zip(of_mnist.layers, rows[2:-2], strict=True):
        numbers = [f"{number:,}" for number in (cost.parameters, cost.multiply_adds, cost.bytes)]
        assert [cost.name, cost.kind, "x".join(map(str, cost.shape)), *numbers] == row
    assert re.fullmatch(r"cpu, level [\w-]+, \d+ threads?", of_mnist.subject.machine)
    assert of_mnist.times[0].layers == ("conv1", "relu1", "pool1") and all(timed.seconds > 0 for timed in of_mnist.times)
    assert [name for timed in of_mnist.times for name in timed.layers] == [cost.name for cost in of_mnist.layers]


def test_times_on_a_device_that_computes_beside_python() -> None:
    """Each pass is waited for."""
    calls: list[str] = []

    class Device(Profiler):
        def synchronize(self) -> None:
            calls.append("wait")

    ops = Device()
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), ops=ops)
    step_seconds(model, np.ones((3, 4), np.float32))
    assert len(calls) == sum(line.calls for name, line in ops.lines.items() if name != "profiler")


@pytest.mark.cuda
def test_on_a_gpu(mnist: Dataset) -> None:
    """The same numbers as on the CPU; the pictures come from the device."""
    few = mnist.test_images[:40], mnist.test_labels[:40]
    found, expected = (
        fastlenet.report(LeNet.pretrained(ops=ops), *few, batch_size=8) for ops in (fastlenet.cuda, fastlenet.ops)
    )
    assert (found.confusion_matrix == expected.confusion_matrix).all() and found.subject.machine == "cuda"
    assert found.filters["conv1"].tobytes() == expected.filters["conv1"].tobytes()
    assert found.loss == pytest.approx(expected.loss, rel=1e-5) and len(found.as_html()) > 100_000


class Thrice(nn.Layer):
    """A layer of a user's."""

    def forward(self, x: Images, context: nn.Context) -> Images:
        y = context.output(x.shape)
        y[...] = 3 * x
        return y


def test_a_layer_of_ones_own_and_no_convolution() -> None:
    model = nn.Sequential(Thrice(), nn.Flatten(), nn.Linear(16, 2), input_shape=(1, 4, 4))
    model.set_facts(mean=0.5, std=0.5, class_names=("a", "b"))
    images = np.random.default_rng(0).random((6, 4, 4))
    found = fastlenet.report(model, images, list("ababab"))
    assert found.filters == {} and [cost.kind for cost in found.layers] == ["Thrice", "Flatten", "Linear"]
    example = found.examples[0]
    normalised = (images[example.index].astype(np.float32) - np.float32(0.5)) / np.float32(0.5)
    assert example.activations["0"] == pytest.approx(3 * normalised[np.newaxis], rel=1e-6)


# --- what it takes ---


def test_an_ensemble(mnist: Dataset) -> None:
    members = [LeNet(seed) for seed in (3, 4)]
    for member in members:
        member.set_facts(mean=0.1, std=0.3)
    images, labels = mnist.test_images[:50], mnist.test_labels[:50]
    found = fastlenet.report(Ensemble(members), images, labels)
    assert found.evaluation.as_dict() == Ensemble(members).evaluate(images, labels).as_dict()
    assert found.subject.networks == 2 and (found.filters["conv1"] == members[0].state_dict()["conv1.weight"]).all()


def test_histories(mnist: Dataset) -> None:
    history, few = History([Epoch(1, 0.5, 0.75, None, None, 2.0, 100.0)]), (mnist.test_images[:20], mnist.test_labels[:20])
    model = LeNet.pretrained()
    assert fastlenet.report(model, *few).histories == ()
    assert fastlenet.report(model, *few, history=history).histories == (history,)
    assert fastlenet.report(model, *few, history=[history, history]).histories == (history, history)
    with pytest.raises(TypeError, match=r"^report: history expects a History, a list of them, or the file of a log, got 3"):
        fastlenet.report(model, *few, history=3)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.zeros((0, 28, 28), np.uint8), []), ValueError, "report: images expects at least one image"),
        ((np.zeros((2, 28, 28), np.uint8),), TypeError, "report: labels expects a label for each image"),
        ((np.zeros((2, 28, 28), np.uint8), [1]), ValueError, "report: labels expects 2 labels"),
        ((np.zeros((2, 27, 28), np.uint8), [1, 2]), ValueError, "report: images expects images"),
    ],
)
def test_what_it_refuses(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{words}"):
        fastlenet.report(LeNet.pretrained(), *arguments)


def test_something_else_than_a_model(mnist: Dataset) -> None:
    with pytest.raises(TypeError, match=r"^report: model expects a model such as LeNet, or an Ensemble, got 'LeNet'$"):
        fastlenet.report("LeNet", mnist)  # type: ignore[arg-type]
