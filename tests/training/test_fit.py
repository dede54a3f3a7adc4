"""`fit` as users call it: images and labels, what it prints, validation data, misspelt names, words in notebooks."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import fastlenet
from fastlenet import RECIPES, Callback, LeNet, Recipe, fit
from fastlenet.data import Dataset
from fastlenet.training.callbacks import console
from fastlenet.training.callbacks.base import Run
from fastlenet.training.evaluation import evaluate
from fastlenet.training.recipe import RecipeChanges
from fastlenet.training.weights import ClassWeight

LINE = r"epoch {}/2   loss \d\.\d{{4}}   accuracy \d+\.\d\d%   val_loss \d\.\d{{4}}   val_accuracy \d+\.\d\d%   .* images/s\n"
LINES = LINE.format(1) + LINE.format(2)


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:200], mnist.train_labels[:200], mnist.test_images[:50], mnist.test_labels[:50]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


def small() -> LeNet:
    return LeNet(seed=3)


# --- images and labels -----------------------------------------------------------------------------------------------------


def test_images_and_labels(few: Dataset) -> None:
    """As from a data set of them; without validation data there is none."""
    data, arrays = small(), small()
    none = replace(few, test_images=few.test_images[:0], test_labels=few.test_labels[:0])
    pixels = few.train_images.astype(np.float64) / 255
    expected = fit(data, replace(none, mean=pixels.mean(), std=pixels.std()), "fast", verbose=0)
    history = fit(arrays, few.train_images, few.train_labels, "fast", verbose=0)
    assert list(history.history) == ["loss", "accuracy"] and len(history.epochs) == 1
    assert history.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-6)
    np.testing.assert_allclose(arrays.parameter_buffer, data.parameter_buffer, atol=1e-5)


def test_validation_data(few: Dataset) -> None:
    """In the place of the data set's own, and for images and labels."""
    others = few.train_images[50:90], few.train_labels[50:90]
    model = small()
    history = fit(model, few, epochs=1, validation_data=others, verbose=0)
    shown = replace(few, test_images=others[0], test_labels=others[1])
    assert (history.epochs[0].val_accuracy, history.epochs[0].val_loss) == evaluate(model, shown)
    history = fit(small(), few.train_images, few.train_labels, epochs=1, validation_data=list(others), verbose=0)
    assert history.epochs[0].val_accuracy is not None


def test_a_recipe_in_every_place(few: Dataset) -> None:
    models = [small() for _ in range(4)]
    fit(models[0], few, "fast", verbose=0)
    fit(models[1], few, recipe="fast", verbose=0)
    fit(models[2], few, None, RECIPES["fast"], verbose=0)
    fit(models[3], few, epochs=1, batch_size=32, shift=1, label_smoothing=0.1, verbose=0)
    assert len({model.parameter_buffer.tobytes() for model in models}) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda few: (few, few.train_labels), TypeError, "^y expects no labels beside a Dataset, which has them, got ndarray$"),
        (lambda few: (few.train_images,), TypeError, "^data expects a Dataset, or images with their labels as y, got ndarray$"),
        (
            lambda few: (few.train_images, "fast"),
            TypeError,
            "^y expects a label for each image, got 'fast'; the name of",
        ),
        (lambda few: (few, "slow"), ValueError, "^recipe expects one of default, fast, best, got 'slow'$"),
        (lambda few: (few, "fsat"), ValueError, "; did you mean fast\\?$"),
        (lambda few: (few, None, 3), TypeError, "^recipe expects a Recipe, or one of default, fast, best, got 3$"),
        (lambda few: (few.train_images, few.train_labels[1:]), ValueError, "labels"),
        (
            lambda few: (few.train_images, np.full(len(few.train_images), 10**6)),
            ValueError,
            "^y expects numbers of classes below 65,536, or words, got 1000000$",
        ),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str, few: Dataset) -> None:
    model = small()
    before = model.parameter_buffer.tobytes()
    with pytest.raises(error, match=message) as caught:
        fit(model, *arguments(few), verbose=0)
    assert "\n" not in str(caught.value) and model.parameter_buffer.tobytes() == before


@pytest.mark.parametrize("wrong", [3, "x", (1, 2, 3), np.zeros((3, 28, 28), np.uint8)], ids=lambda wrong: type(wrong).__name__)
def test_wrong_validation_data(wrong: Any, few: Dataset) -> None:
    with pytest.raises(TypeError, match=r"^validation_data expects a pair of images and labels, got "):
        fit(small(), few, validation_data=wrong, verbose=0)


# --- what it prints --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("verbose", "terminal", "lines", "bar"),
    [
        ("auto", False, True, False),
        ("auto", True, True, True),
        (1, False, True, True),
        (True, False, True, True),
        (2, True, True, False),
        (np.int64(2), True, True, False),
        (0, True, False, False),
        (False, True, False, False),
    ],
)
def test_verbose(
    verbose: Any, terminal: bool, lines: bool, bar: bool, few: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    fit(small(), few, epochs=2, verbose=verbose)
    assert re.fullmatch(LINES if lines else "", capsys.readouterr().out)
    assert ("epoch 2/2:" in shown.getvalue()) is bar and (bar or shown.getvalue() == "")


@pytest.mark.parametrize("wrong", [3, -1, "loud", None, 1.0])
def test_wrong_verbose(wrong: Any, few: Dataset) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^verbose expects "):
        fit(small(), few, verbose=wrong)


def test_a_bar_in_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of Jupyter's tells itself apart by its configuration; a shell of IPython's is a terminal like any other."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not console.shows_bars()
    widgets: list[object] = []  # of the package ipywidgets, which tqdm needs for its bar
    monkeypatch.setattr(console, "find_spec", lambda name: widgets[0] if widgets else None)
    kernel: dict[str, object] = {"IPKernelApp": {}}
    for config, found, expected in ((kernel, [object()], True), (kernel, [], False), ({}, [object()], False)):
        widgets[:] = found
        shell = type("Shell", (), {"config": config})
        monkeypatch.setitem(
            sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda shell=shell: shell)})
        )
        assert console.shows_bars() is expected


def test_why_it_stopped_is_printed(few: Dataset, capsys: Any) -> None:
    class Enough(Callback):
        def epoch(self, run: Run, epoch: Any) -> None:
            run.stop("it is good enough")

    history = fit(small(), few, epochs=2, callbacks=[Enough()], verbose=2)
    assert history.stopped == "it is good enough" and len(history.epochs) == 1
    assert capsys.readouterr().out.endswith("\nstopped: it is good enough\n")


# --- callbacks -------------------------------------------------------------------------------------------------------------


def test_what_callbacks_are_called_for(few: Dataset, tmp_path: Path) -> None:
    """In this order; at the end the model is in evaluation mode, and the checkpoint is written."""
    calls: list[Any] = []

    class Watch(Callback):
        def begin(self, run: Run) -> None:
            calls.append(("begin", run.state.epoch, run.state.model.training))

        def batch(self, run: Run, loss: Any, images: int) -> None:
            calls.append(("batch", run.state.position, images))

        def epoch(self, run: Run, epoch: Any) -> None:
            calls.append(("epoch", epoch.epoch))

        def finish(self, run: Run) -> None:
            calls.append("finish")

        def end(self, run: Run) -> None:
            calls.append(("end", run.state.model.training, (tmp_path / "state").exists()))

    fit(small(), few, epochs=1, batch_size=150, callbacks=[Watch()], checkpoint=tmp_path / "state", verbose=0)
    ended = ("end", False, True)
    assert calls == [("begin", 0, True), ("batch", 1, 150), ("batch", 2, 50), ("epoch", 1), "finish", ended]
    calls.clear()
    fit(small(), few, epochs=1, batch_size=150, callbacks=[Watch()], resume=tmp_path / "state", verbose=0)
    assert calls == [("begin", 1, True), "finish", ended]


# --- names -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Recipe(epoch=3), "^Recipe: unexpected argument epoch; did you mean epochs?$"),
        (lambda: replace(Recipe(), batchsize=3), "^Recipe: unexpected argument batchsize; did you mean batch_size?$"),
        (lambda: fastlenet.Augmentation(rotate=3), "^Augmentation: unexpected argument rotate; did you mean rotation?$"),
        (
            lambda: fit(LeNet(), None, xyz=3, epochs=1),
            "^fit: unexpected argument xyz; it takes epochs, .*seed$",
        ),
        (lambda: fit(LeNet(), None, learning_rate=3), "^fit: unexpected argument learning_rate; did you mean lr?$"),
        (lambda: fit(LeNet(), None, callback=[]), "^fit: unexpected argument callback; did you mean callbacks?$"),
        (lambda: fit(LeNet(), None, verbos=0), "^fit: unexpected argument verbos; did you mean verbose?$"),
    ],
)
def test_misspelt_names(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        call()


def test_the_types_of_changes_are_those_of_the_fields() -> None:
    kinds = {field.name: type(field.default) for field in fields(Recipe)}
    assert get_type_hints(RecipeChanges) == kinds | {"class_weight": ClassWeight}


@pytest.mark.slow
def test_a_type_checker_sees_a_wrong_change(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed; pip install 'fastlenet[dev]' brings it")
    (tmp_path / "calls.py").write_text(
        "import fastlenet\nmodel = fastlenet.LeNet()\n"
        'fastlenet.fit(model, None, epochs="three")\nfastlenet.fit(model, None, "fast", epochs=3, lr=1)\n'
        'fastlenet.fit(model, None, loss="mse", class_weight={1: 2, 3: 0.5}, sample_weight=[1.0])\n'
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "calls.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith('calls.py:3: error: Argument "epochs" to "fit" has incompatible type "str"; expected "int"')
    assert done.stdout.count("error:") == 1, done.stdout


# --- a recipe's words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe(), *RECIPES.values()])
def test_the_repr_of_a_recipe_makes_it(recipe: Recipe) -> None:
    assert eval(repr(recipe), {"Recipe": Recipe}) == recipe
    assert repr(Recipe()) == "Recipe()" and "seed" not in repr(recipe)


def test_a_recipe_in_a_notebook() -> None:
    html = Recipe(epochs=7, optimizer="muon")._repr_html_()
    assert "<td>epochs</td><td>7</td><td>passes over the training images; 0 only evaluates</td>" in html
    assert "muon_lr" in html and "elastic" not in html and html.count("<tr>") == html.count("</tr>")
