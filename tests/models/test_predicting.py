"""Raw images into a model: any layout and type gives the same bits; what does not fit is refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import Ensemble, LeNet, fit, nn, ops, reference
from fastlenet.data import Dataset
from fastlenet.inference.scores import Evaluation, wilson_interval
from fastlenet.training import evaluation
from helpers.expect import expect_same_bits

Layout = Callable[[Any], Any]


def known(model: nn.Sequential, **facts: Any) -> nn.Sequential:
    model.set_facts(**{"mean": 0.25, "std": 0.5} | facts)
    return model


@pytest.fixture
def gray() -> nn.Sequential:
    return known(LeNet(2, input_shape=(1, 12, 10), classes=3, algorithm="winograd"))


@pytest.fixture
def colour() -> nn.Sequential:
    return known(LeNet(2, input_shape=(3, 12, 10), classes=3), mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 1])


def by_hand(model: nn.Sequential, images: Any) -> Any:
    """The probabilities of uint8 (n, c, h, w), in float64."""
    copy = type(model)(2, input_shape=model.input_shape, classes=3, ops=reference)  # type: ignore[call-arg]
    shape = (-1, 1, 1)
    x = (images / 255 - np.reshape(model.mean, shape)) / np.reshape(model.std, shape)
    logits = copy.eval()(x.astype(np.float32)).astype(np.float64)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


TYPES: dict[str, Layout] = {
    "uint8": lambda images: images,
    "int64": lambda images: images.astype(np.int64),
    "float32 in [0, 255]": lambda images: images.astype(np.float32),
    "float64 in [0, 1]": lambda images: images / 255,
    "big endian": lambda images: images.astype(">i2"),
    "strided view": lambda images: np.repeat(images, 2, axis=-1)[..., ::2],
    "column order": np.asfortranarray,
    "lists": lambda images: images.tolist(),
}
GRAY_LAYOUTS: dict[str, Layout] = {
    "(n, h, w)": lambda images: images[:, 0],
    "(n, c, h, w)": lambda images: images,
    "(n, h, w, c)": lambda images: images[:, 0, :, :, None],
    "(n, h*w)": lambda images: images.reshape(len(images), -1),
}
COLOUR_LAYOUTS: dict[str, Layout] = {
    "(n, c, h, w)": lambda images: images,
    "(n, h, w, c)": lambda images: images.transpose(0, 2, 3, 1),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("layout", GRAY_LAYOUTS)
def test_gray_images_of_any_layout_and_type(layout: str, kind: str, gray: nn.Sequential, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (7, 1, 12, 10), np.uint8)
    given = TYPES[kind](GRAY_LAYOUTS[layout](images))
    probabilities = gray.predict_proba(given)
    assert probabilities.shape == (7, 3) and np.allclose(probabilities, by_hand(gray, images), atol=1e-5)
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f":
        expect_same_bits(probabilities, gray.predict_proba(images))
    assert (gray.predict(given) == probabilities.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("layout", COLOUR_LAYOUTS)
def test_colours(layout: str, kind: str, colour: nn.Sequential, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, 3, 12, 10), np.uint8)
    probabilities = colour.predict_proba(TYPES[kind](COLOUR_LAYOUTS[layout](images)))
    assert np.allclose(probabilities, by_hand(colour, images), atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 1), (120,)])
def test_one_gray_image(shape: tuple[int, ...], gray: nn.Sequential, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (12, 10), np.uint8)
    label, probabilities = gray.predict(image.reshape(shape)), gray.predict_proba(image.reshape(shape))
    assert type(label) is int and probabilities.shape == (3,) and label == probabilities.argmax()
    assert gray.predict(image[np.newaxis]).shape == (1,)


def test_one_colour_image_and_its_label(colour: nn.Sequential, rng: np.random.Generator) -> None:
    colour.set_facts(class_names=["red", "green", "blue"])
    image = rng.integers(0, 256, (3, 12, 10), np.uint8)
    label = colour.predict(image)
    assert type(label) is str and label == colour.predict(image.transpose(1, 2, 0)) == colour.predict(image[np.newaxis])[0]


@pytest.mark.parametrize("names", [("a", "b", "c"), (3, 7, -1), ("3", "7", "-1")])
def test_labels_as_the_user_gave_them(names: tuple[Any, ...], gray: nn.Sequential, rng: np.random.Generator) -> None:
    gray.set_facts(class_names=names)
    images = rng.integers(0, 256, (20, 12, 10), np.uint8)
    labels, numbers = gray.predict(images), gray.predict_proba(images).argmax(axis=1)
    assert labels.tolist() == [names[number] for number in numbers]
    assert gray.evaluate(images, labels).accuracy == 1
    assert gray.evaluate(images, labels.tolist()).class_names == names


def test_batches_bound_the_memory(gray: nn.Sequential, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    images, seen = rng.integers(0, 256, (30, 1, 12, 10)) / 255, []

    def gather(images: Any, *rest: Any, **options: Any) -> Any:
        seen.append(len(images))
        return real(images, *rest, **options)

    whole, real = gray.predict_proba(images), ops.gather_images
    monkeypatch.setattr(ops, "gather_images", gather)
    expect_same_bits(gray.predict_proba(images, batch_size=8), whole)
    assert seen == [8, 8, 8, 6]


def test_a_dark_batch_among_bright_ones(gray: nn.Sequential) -> None:
    """The range of the pixels is that of all images: floats in [0, 255] whose first batch has no pixel above 1."""
    images = np.zeros((4, 12, 10))
    images[0, 0, 0], images[3] = 1.0, 255.0
    expect_same_bits(gray.predict_proba(images, batch_size=1)[0], gray.predict_proba(images.astype(np.uint8))[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_zeros_and_ones_are_black_and_white(dtype: type[np.generic], gray: nn.Sequential, rng: np.random.Generator) -> None:
    """As truth values are; they were taken as two shades of black."""
    white = rng.random((5, 12, 10)) < 0.5
    expected = gray.predict_proba(white)
    np.testing.assert_array_equal(gray.predict_proba(white.astype(dtype)), expected)
    np.testing.assert_array_equal(gray.predict_proba(white * np.uint8(255)), expected)
    data = [Dataset.from_arrays(images, range(5)) for images in (white, white.astype(dtype))]
    np.testing.assert_array_equal(data[0].train_images, data[1].train_images)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_run_stay(training: bool, gray: nn.Sequential, rng: np.random.Generator) -> None:
    """A prediction between a forward pass and its backward pass changes neither mode nor gradients."""
    images, x = rng.integers(0, 256, (5, 12, 10), np.uint8), rng.standard_normal((4, 1, 12, 10), np.float32)
    model = known(LeNet(1, input_shape=(1, 12, 10), classes=3, dropout=0.5))
    model.train() if training else model.eval()
    expected = gradients = None
    for predicts in (False, True):
        if training:
            model.dropout_counter = 0
            dy = model(x)
        if predicts:
            expect_same_bits(model.predict_proba(images), model.predict_proba(images))
        assert model.training is training
        if training:
            model.backward(dy)
            gradients = model.gradient_buffer.copy()
            expected = gradients if expected is None else expected
            expect_same_bits(gradients, expected)


def test_an_ensemble_averages(rng: np.random.Generator, tmp_path: Path) -> None:
    images = rng.integers(0, 256, (9, 28, 28), np.uint8)
    members = [known(LeNet(seed), class_names=list("abcdefghij")) for seed in range(3)]
    ensemble = Ensemble(members)
    mean = sum(member.predict_proba(images) for member in members) / 3
    assert np.allclose(ensemble.predict_proba(images), mean, atol=1e-15)
    assert ensemble.predict(images).tolist() == ["abcdefghij"[number] for number in mean.argmax(axis=1)]
    assert ensemble.evaluate(images, ensemble.predict(images)).accuracy == 1
    ensemble.save(tmp_path / "m.safetensors")
    expect_same_bits(fastlenet.load(tmp_path / "m.safetensors").predict_proba(images), ensemble.predict_proba(images))


def test_as_training_evaluates(mnist: Dataset, tmp_path: Path) -> None:
    """fit, then save, load and predict raw images: the numbers of the training's own evaluation, with tta too."""
    data = replace(mnist, test_images=mnist.test_images[:300], test_labels=mnist.test_labels[:300])
    model = LeNet(seed=1)
    fit(model, data.train_images[:1280], data.train_labels[:1280], "fast", epochs=1, verbose=0)
    own = replace(data, mean=model.mean, std=model.std)
    model.save(tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors")
    for tta in (False, True):
        probabilities = loaded.predict_proba(data.test_images, tta=tta)
        expect_same_bits(probabilities, evaluation.predict([model], own, tta=tta))
        accuracy, loss = evaluation.evaluate(model, own, tta=tta)
        result = loaded.evaluate(data, tta=tta)
        assert result.accuracy == accuracy > 0.5 and math.isclose(result.loss, loss, rel_tol=1e-5)
        assert loaded.evaluate(data.test_images / 255, data.test_labels, tta=tta).correct == result.correct


def test_a_data_set_with_other_words_for_its_classes(gray: nn.Sequential, rng: np.random.Generator) -> None:
    images, labels = rng.integers(0, 256, (12, 12, 10), np.uint8), np.arange(12) % 3
    data = Dataset.from_arrays(images, np.array(["x", "y", "z"])[labels], test=0.5)
    accuracy = gray.evaluate(data).accuracy  # it knows no names
    gray.set_facts(class_names=("x", "y", "z"))
    assert gray.evaluate(data).accuracy == gray.evaluate(data, part="test").accuracy == accuracy
    assert gray.evaluate(data, part="train").count == 6
    gray.set_facts(class_names=("z", "y", "x"))  # the same words in another order
    expected = (gray.predict(data.test_images) == np.array(data.class_labels)[data.test_labels]).mean()
    assert gray.evaluate(data).accuracy == expected
    gray.set_facts(class_names=(5, 6, 7))  # others, of which only the order can be the same
    assert gray.evaluate(data).accuracy == accuracy


def test_on_a_gpu(gray: nn.Sequential, rng: np.random.Generator, device_kind: str) -> None:
    from helpers.backends import ops as backend

    images = rng.integers(0, 256, (3, 12, 10), np.uint8)
    there = known(LeNet(2, input_shape=(1, 12, 10), classes=3, ops=backend))
    assert np.allclose(there.predict_proba(images), gray.predict_proba(images), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_activations_of_every_layer(training: bool, rng: np.random.Generator) -> None:
    model = known(LeNet(2, input_shape=(1, 12, 10), classes=3, dropout=0.5))
    model.train() if training else model.eval()
    images = rng.integers(0, 256, (4, 12, 10), np.uint8)
    found = model.activations(images)
    assert [*found] == model.names and model.training is training
    x = ((images[:, None] / 255 - 0.25) / 0.5).astype(np.float32)
    for name, layer in zip(model.names, model, strict=True):
        assert found[name].shape == (4, *layer.output_shape(x.shape[1:])) and found[name].dtype == np.float32
        alone = nn.Sequential(layer, names=[name], ops=reference)
        alone.load_state_dict({key: array for key, array in model.state_dict().items() if key.startswith(f"{name}.")})
        assert np.allclose(found[name], alone.eval()(x), atol=1e-4)
        x = found[name]
    exponentials = np.exp(found["fc2"].astype(np.float64))
    assert np.allclose(exponentials / exponentials.sum(1, keepdims=True), model.predict_proba(images), atol=1e-6)
    for name, array in model.activations(images[2]).items():
        expect_same_bits(array, found[name][2])


# --- what does not fit ---------------------------------------------------------------------------------------------------


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.uint8)


WRONG_IMAGES: list[tuple[Any, str]] = [
    (None, r"expects images \(n, 12, 10\), .* got NoneType"),
    ("photo.png", "got str"),
    (zeros(10, 12), r"got shape \(10, 12\); bring the images to 12x10 pixels in 1 channel first"),
    (zeros(2, 12, 10, 3), "got shape .*; the model takes one channel: convert colours to gray first"),
    (zeros(12, 10, 3), "convert colours to gray first"),
    (zeros(2, 3, 12, 10), "convert colours to gray first"),
    (zeros(3, 32, 32), "bring the images to 12x10 pixels"),
    (zeros(0, 12, 10), "at least one image"),
    (zeros(), r"got shape \(\)"),
    (np.full((2, 12, 10), -1.0), "expects pixels in 0..255, .* got float64 in -1.0..-1.0; give the pixels as they were"),
    (np.full((2, 12, 10), np.nan), "numpy.isfinite finds them"),
    (np.full((2, 12, 10), 65535, np.uint16), "divide them by 65535"),
    (np.full((2, 12, 10), "a"), "of numbers, got <U1"),
    (np.ma.masked_equal(np.ones((2, 12, 10)), 1), "got a masked array"),
    ([[0.0], [0.0, 1.0]], "parts of different shapes"),
]


@pytest.mark.parametrize(("images", "pattern"), WRONG_IMAGES, ids=range(len(WRONG_IMAGES)))
@pytest.mark.parametrize("name", ["predict", "predict_proba", "evaluate"])
def test_images_that_do_not_fit(name: str, images: Any, pattern: str, gray: nn.Sequential) -> None:
    call = gray.evaluate if name == "evaluate" else getattr(gray, name)
    with pytest.raises((TypeError, ValueError), match=f"^{name}: images .*{pattern}") as caught:
        call(images, [0, 1]) if name == "evaluate" else call(images)
    assert "\n" not in str(caught.value)


def test_rows_of_colours(colour: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"\.reshape\(-1, 3, 12, 10\) makes images of rows of 3 channels"):
        colour.predict(zeros(4, 360))


def test_a_model_that_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"^predict: the model does not know the shape of its images; fit sets it, or"):
        nn.Sequential(nn.Flatten(), nn.Linear(784, 2)).predict(zeros(1, 28, 28))
    with pytest.raises(ValueError, match=r"^predict_proba: the model does not know how its images are normalised; fit sets"):
        LeNet().predict_proba(zeros(1, 28, 28))
    with pytest.raises(ValueError, match=r"^predict: the model takes examples of shape \(1,\), not images; call it"):
        fastlenet.Chain().predict(zeros(1, 28, 28))
    broken = known(LeNet())
    broken.parameter_buffer[3] = np.nan
    with pytest.raises(ValueError, match=r"finite parameters, got NaN or infinity in conv1.weight"):
        broken.predict(zeros(1, 28, 28))


def test_labels_that_do_not_fit(gray: nn.Sequential, mnist: Dataset) -> None:
    for labels, pattern in (
        (None, "evaluate: labels expects a label for each image, beside images, got None"),
        ([0], "evaluate: labels expects 2 labels, one for each image, got 1"),
        ([0, 3], "evaluate: labels expects labels of the 3 classes, 0, 1, 2, got 3, first at place 1$"),
        (["a", "b"], "evaluate: labels expects labels like those of the classes"),
        ([[1, 0, 0], [0, 1, 0]], r"evaluate: labels .*argmax"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{pattern}"):
            gray.evaluate(zeros(2, 12, 10), labels)
    with pytest.raises(TypeError, match=r"^evaluate: labels expects no labels beside a Dataset"):
        gray.evaluate(mnist, [1])
    with pytest.raises(TypeError, match=r"^evaluate: part expects a Dataset"):
        gray.evaluate(zeros(2, 12, 10), [0, 1], part="test")
    with pytest.raises(ValueError, match=r"^evaluate: images expects images .n, 12, 10"):
        gray.evaluate(mnist)
    with pytest.raises(ValueError, match="no validation images to report on"):
        gray.evaluate(mnist, part="validation")


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("batch_size", 1.5), ("tta", 1), ("tta", None)])
def test_options_that_do_not_fit(option: str, value: Any, gray: nn.Sequential) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^predict: {option} expects"):
        gray.predict(zeros(1, 12, 10), **{option: value})


# --- scores --------------------------------------------------------------------------------------------------------------


def test_wilson_interval() -> None:
    """Against the roots of its definition, (share - p)^2 = z^2 p (1 - p) / n, and within [0, 1]."""
    for correct, count in ((0, 1), (1, 1), (9961, 10_000), (3, 7), (50, 100)):
        low, high = wilson_interval(correct, count)
        assert 0 <= low <= correct / count <= high <= 1
        for p in (low, high):
            assert math.isclose((correct / count - p) ** 2, 1.959963984540054**2 * p * (1 - p) / count, abs_tol=1e-12)
    assert wilson_interval(9961, 10_000) == pytest.approx((0.99467, 0.99715), abs=5e-6)


def test_scores_of_a_small_table() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    result = Evaluation.of(probabilities, np.array([0, 1, 1, 0]), ("ant", "bee", "<cat>"))
    assert result.confusion_matrix.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert (result.count, result.correct, result.accuracy) == (4, 2, 0.5)
    assert result.loss == pytest.approx((2 * math.log(2) + 2 * math.log(4)) / 4)
    assert result.recall[:2].tolist() == [0.5, 0.5] and np.isnan(result.recall[2])
    assert result.precision.tolist() == [0.5, 1, 0]
    assert result.confusions() == [("ant", "<cat>", 1), ("bee", "ant", 1)]
    said = json.loads(result.as_json())
    assert said["classes"][2] == {"label": "<cat>", "images": 0, "correct": 0, "accuracy": None, "precision": 0, "recall": None}
    assert said["confusion_matrix"] == result.confusion_matrix.tolist() and said["interval"] == list(result.interval)
    assert "&lt;cat&gt;" in result._repr_html_() and repr(result).startswith("Evaluation(accuracy 50.00%, 95 % in 15.00%..85")
    assert [line.split() for line in str(result).splitlines()[-3:]] == [
        ["ant", "1", ".", "1"],
        ["bee", "1", "1", "."],
        ["<cat>", ".", ".", "."],
    ]


@pytest.mark.parametrize("names", [tuple(range(100)), tuple("abcdefghijklmnopqrstuvwxyz"), ("a\nb" * 30, "\x1b[31mred")])
def test_a_report_fits_a_terminal(names: tuple[Any, ...], rng: np.random.Generator) -> None:
    """With many classes or long names the most frequent mistakes stand in place of the matrix."""
    result = Evaluation.of(rng.random((500, len(names))), rng.integers(0, len(names), 500), names)
    assert all(len(line) <= 80 and line.isprintable() for line in str(result).splitlines())
    assert ("the most frequent mistakes" in str(result)) == (len(names) > 30)
    perfect = Evaluation.of(np.eye(len(names)), np.arange(len(names)), names)
    assert ("no image was taken for another class" in str(perfect)) == (len(names) > 30)


def test_a_report_of_a_thousand_classes_is_made_of_its_mistakes() -> None:
    """Not of a million cells."""
    names = tuple(f"<{number}>" for number in range(1000))
    labels = np.arange(1000)
    taken = np.where(labels == 7, 8, labels)
    result = Evaluation.of(np.eye(1000)[taken], labels, names)
    assert len(result._repr_html_()) < 1000 and "&lt;7&gt;  taken for  &lt;8&gt;  1 times" in result._repr_html_()
    lines = str(result).splitlines()
    assert lines[-1].split() == ["<7>", "taken", "for", "<8>", "1", "times"] and len(lines) == 1000 + 7
    assert lines[4 + 7].split() == ["<7>", "1", "0", "0.00%", "-"]


def test_columns_of_wide_letters() -> None:
    """Japanese letters take two columns of a terminal, so that three of them are as wide as six others."""
    rows = str(Evaluation.of(np.eye(2), np.arange(2), ("\u65e5\u672c\u8a9e", "abcdef"))).splitlines()[4:6]
    assert rows[0].removeprefix("\u65e5\u672c\u8a9e") == rows[1].removeprefix("abcdef")
