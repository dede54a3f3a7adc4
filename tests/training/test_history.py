"""What a run came to: the epochs' numbers by Keras's keys, as a table of pandas, as a picture."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import RECIPES, LeNet, Recipe, fit
from fastlenet.data import Dataset
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.figures import PlotError
from fastlenet.training.history import Epoch, History
from helpers.plots import overlaps

EPOCHS = [Epoch(1, 0.5, 0.75, None, None, 2.0, 100.0), Epoch(2, 0.25, 0.875, 0.125, 0.96875, 4.0, 50.0)]


@pytest.fixture
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:300], mnist.train_labels[:300], mnist.test_images[:50], mnist.test_labels[:50]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


@pytest.fixture
def pyplot() -> Iterator[Any]:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed; pip install 'fastlenet[test]' brings it")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_the_training_accuracy(few: Dataset) -> None:
    """With a rate of 0 the weights stay, and the images as they are: it is the model's accuracy on the training images."""
    model = LeNet(seed=1)
    history = fit(model, few, lr=0.0, muon_lr=0.0, weight_decay=0.0, shift=0, epochs=2, batch_size=70)
    x = (few.train_images[:, None].astype(np.float32) / 255 - few.mean) / few.std
    right = (model(x.astype(np.float32)).argmax(axis=1) == few.train_labels).mean()
    assert 0 < right < 1 and history.history["accuracy"] == [right, right]


def test_the_training_accuracy_of_a_part(few: Dataset) -> None:
    """Seen by a callback in the middle of an epoch, after the steps were waited for."""
    seen: dict[int, tuple[int, int]] = {}

    class Watch(Callback):
        def batch(self, run: Run, loss: Any, images: int) -> None:
            if run.state.position in (2, 3, 5):
                run.mean_loss()
                seen[run.state.position] = (run.state.correct, run.state.images)

    history = fit(LeNet(), few, epochs=1, batch_size=60, callbacks=(Watch(),))
    counts = [seen[position][0] for position in (2, 3, 5)]
    assert counts == sorted(counts) and [seen[position][1] for position in (2, 3, 5)] == [120, 180, 300]
    assert history.epochs[0].accuracy == counts[-1] / 300


def test_keras_keys(few: Dataset) -> None:
    history = fit(LeNet(), few, epochs=2, batch_size=50)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(values) == 2 and all(type(value) is float for value in values) for values in history.history.values())
    assert [epoch.val_loss for epoch in history.epochs] == history.history["val_loss"]


def test_epochs_without_evaluation() -> None:
    history = History(EPOCHS).history
    assert history["loss"] == [0.5, 0.25] and history["val_accuracy"][1] == 0.96875
    assert math.isnan(history["val_accuracy"][0]) and math.isnan(history["val_loss"][0])
    assert list(History(EPOCHS[:1]).history) == ["loss", "accuracy"]
    assert History().history == {"loss": [], "accuracy": []}


def test_words() -> None:
    assert repr(History()) == "History(0 epochs)"
    assert repr(History(EPOCHS[:1])) == "History(1 epoch, loss 0.5000, accuracy 75.00%)"
    words = "History(2 epochs, loss 0.2500, accuracy 87.50%, val_loss 0.1250, val_accuracy 96.88%; stopped: too <slow>)"
    assert repr(History(EPOCHS, stopped="too <slow>")) == words
    assert str(EPOCHS[0]) == "loss 0.5000   accuracy 75.00%   2.00 s   100 images/s"


def test_in_a_notebook() -> None:
    html = History(EPOCHS, stopped="too <slow>")._repr_html_()
    assert html.count("<tr>") == 3 and "<td>87.50%</td><td>0.1250</td><td>96.88%</td><td>4.00</td>" in html
    assert html.endswith("<p>stopped: too &lt;slow&gt;</p>")
    assert "val_loss" not in History(EPOCHS[:1])._repr_html_()


def test_to_frame() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; pip install 'fastlenet[test]' brings it")
    frame = History(EPOCHS).to_frame()
    assert isinstance(frame, pandas.DataFrame) and frame.index.name == "epoch" and list(frame.index) == [1, 2]
    assert list(frame.columns) == ["loss", "accuracy", "val_loss", "val_accuracy", "seconds", "images_per_second"]
    assert frame.loc[2].tolist() == [0.25, 0.875, 0.125, 0.96875, 4.0, 50.0] and frame["val_loss"].isna().tolist() == [
        True,
        False,
    ]


def test_to_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^History.to_frame needs pandas \(.*\); pip install 'fastlenet\[pandas\]'$"):
        History(EPOCHS).to_frame()


def test_plot(pyplot: Any, tmp_path: Path) -> None:
    losses, accuracies = History(EPOCHS).plot(tmp_path / "history.png")
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss"]
    assert [line.get_label() for line in accuracies.lines] == ["accuracy", "val_accuracy"]
    assert losses.lines[0].get_ydata().tolist() == [0.5, 0.25] and losses.lines[0].get_xdata().tolist() == [1, 2]
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert losses.figure.number in pyplot.get_fignums()  # which is what notebooks show
    assert len(History().plot()) == 2


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r"^a plot needs matplotlib \(.*\); pip install 'fastlenet\[plot\]'$"):
        History(EPOCHS).plot()


def plain(**changes: Any) -> Recipe:
    return Recipe(**{"shift": 0, "epochs": 3, **changes})


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (RECIPES["default"], "label smoothing and distorted images"),
        (RECIPES["best"], "label smoothing, distorted images and dropout"),
        (plain(dropout_fc1=0.1), "dropout"),
        (plain(rotation=5.0, plain_epochs=2), "distorted images"),
        (plain(rotation=5.0, plain_epochs=3), ""),
        (plain(), ""),
        (None, ""),
    ],
)
def test_the_note_names_what_the_recipe_has(recipe: Recipe | None, words: str) -> None:
    """The training loss lies above the other one where it includes more: said there, and only there."""
    note = f"loss includes {words}. val_loss does not, so loss usually lies above it." if words else ""
    assert History(EPOCHS, recipe=recipe).note == note


def test_a_run_knows_its_recipe(few: Dataset) -> None:
    history = fit(LeNet(), few, epochs=1, shift=0, label_smoothing=0.1, verbose=0)
    assert history.recipe is not None and "label smoothing." in history.note


def test_overlaps_are_found(pyplot: Any) -> None:
    figure, axes = pyplot.subplots()
    axes.plot([0, 1], [0, 1], label="a")
    axes.legend(loc="center")
    assert len(overlaps(figure)) == 1


@pytest.mark.parametrize("gap", [0.0, 1e-4, 0.3])
def test_no_label_covers_a_curve(gap: float, pyplot: Any) -> None:
    """Each curve's name stands beside its end, in its colour, also where two curves end at one point."""
    epochs = [Epoch(n, 1 / n, 1 - 1 / n, 1 / n + gap / n, 1 - 1 / n - gap / n, 1.0, 1.0) for n in range(1, 9)]
    losses, accuracies = History(epochs, recipe=RECIPES["best"]).plot()
    assert overlaps(losses.figure) == [] and losses.get_legend() is None
    for axes, names in ((losses, ["loss", "val_loss"]), (accuracies, ["accuracy", "val_accuracy"])):
        colours = {line.get_label(): line.get_color() for line in axes.lines}
        assert {text.get_text(): text.get_color() for text in axes.texts} == colours and sorted(colours) == sorted(names)
    assert losses.figure.get_supxlabel().startswith("loss includes label smoothing, distorted images and dropout.")


def test_curves_without_a_note(pyplot: Any) -> None:
    assert History(EPOCHS, recipe=plain()).plot()[0].figure.get_supxlabel() == ""
