"""Recipes: what their fields mean, and that a run of every feature is the same to the bit however it is run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import Augmentation, LeNet, fit, get_num_threads, ops, set_num_threads
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.optim import SGD, Adam, AdamW, Muon
from fastlenet.philox import permutation, philox
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import load_checkpoint
from fastlenet.training.evaluation import evaluate, predict, score
from fastlenet.training.history import Epoch, History
from fastlenet.training.recipe import RECIPES, Recipe, named_recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.step import TrainingStep
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result
from helpers.expect import expect_same_bits

Train = Callable[..., Result]

EVERYTHING = Recipe(
    epochs=3,
    batch_size=100,
    batch_size_end=300,
    shards=4,
    lr=0.05,
    schedule="cosine",
    clip_norm=1.0,
    loss="mse",
    class_weight="balanced",
    label_smoothing=0.1,
    dropout=0.3,
    dropout_fc1=0.1,
    ema=0.9,
    ema_every=2,
    shift=2,
    plain_epochs=1,
    tta=True,
    seed=4,
)


@pytest.fixture(scope="module")
def data(small_mnist: Path) -> Dataset:
    return load_idx_directory(small_mnist)


@pytest.fixture(scope="module")
def few(data: Dataset) -> Dataset:
    """Half of them, for what is trained several times."""
    train, test = slice(1000), slice(200)
    images, labels = (data.train_images[train], data.test_images[test]), (data.train_labels[train], data.test_labels[test])
    return replace(data, train_images=images[0], train_labels=labels[0], test_images=images[1], test_labels=labels[1])


def trained(data: Dataset, recipe: Recipe, **options: Any) -> tuple[LeNet, list[Epoch]]:
    model = LeNet.of(recipe)
    return model, fit(model, data, recipe, **options).epochs


# --- fields -------------------------------------------------------------------------------------------------------------


def test_named_recipes() -> None:
    assert RECIPES["default"] == named_recipe("default")
    assert named_recipe("best", lr=0.5) == replace(RECIPES["best"], lr=0.5)
    with pytest.raises(ValueError, match=r"recipe expects one of default, fast, best, got 'slow'$"):
        named_recipe("slow")
    with pytest.raises(TypeError, match=r"^named_recipe: unexpected argument speed; did you mean seed\?$"):
        named_recipe("fast", speed=1)


FIELDS = [field.name for field in fields(Recipe)]
# What no field accepts; then, by kind of field, what else that kind does not.
NEVER: list[Any] = [None, math.nan, math.inf, -math.inf, -1, 1e400, 10**400, 1j, [], [1], {}, object(), "x" * 1000, b"1"]
NOT_OF_KIND: dict[type, list[Any]] = {
    int: ["x", "1", 1.5, 64.0, True, np.bool_(True), np.float64(2), np.array([1]), -(2**63), 2**64],
    float: ["x", "0.1", True, np.bool_(False), np.array([0.1]), np.nan, -1e-300],
    bool: ["x", 0, 1, 1.0, np.int64(1), np.array([True])],
    str: ["x", "", 0, True, "SGD", np.str_("x")],
}


@pytest.mark.parametrize("name", sorted({*FIELDS} - {"class_weight"}))  # which test_weights.py has
def test_a_field_refuses_all_else(name: str) -> None:
    """In one line that starts with the field's name; so does an augmentation's."""
    kind = type(getattr(Recipe(), name))
    makers = [(Recipe, name)] + [(Augmentation, f"Augmentation: {name}")] * hasattr(Augmentation(), name)
    for value in NEVER + NOT_OF_KIND[kind]:
        for make, start in makers:
            with pytest.raises((TypeError, ValueError), match=rf"^{start} expects [^\n]{{1,100}}, got [^\n]{{1,70}}$"):
                make(**{name: value})


@pytest.mark.parametrize("name", FIELDS)
def test_numpy_scalars_become_python(name: str) -> None:
    """The recipe is the same, whatever it was made of: as JSON, as a key, and in the results that depend on it."""
    default = getattr(Recipe(), name)
    kinds: dict[type, tuple[Any, ...]] = {
        int: (np.int8, np.int64, np.uint64, np.uint8),
        float: (np.float64, np.float32, np.int64) if name in ("ema", "elastic_sigma", "rotation") else (np.float64,),
        bool: (np.bool_,),
        str: (np.str_,),
    }
    for kind in kinds[type(default)]:
        recipe = Recipe(**{name: kind(default)})
        assert type(getattr(recipe, name)) is type(default)
        assert recipe == Recipe() and hash(recipe) == hash(Recipe())
        assert json.dumps(asdict(recipe)) == json.dumps(asdict(Recipe()))
    if type(default) is float:
        assert getattr(Recipe(**{name: np.float32(0.5)}), name) == 0.5


def test_transforms() -> None:
    """By epoch: of the augmentation's own seed, if there is one, and none in the plain epochs or without distortions."""
    recipe = Recipe(epochs=3, plain_epochs=1, shift=2, rotation=5.0, seed=7)
    assert [recipe.transforms(28, 28)(epoch) for epoch in range(3)] == [*(recipe.augmentation.at(7, e) for e in (0, 1)), None]
    assert replace(recipe, augmentation_seed=9).transforms(56, 60)(1) == recipe.augmentation_for(56, 60).at(9, 1)
    assert Recipe(shift=0).transforms(28, 28)(0) is None


def test_the_ends_of_the_ranges() -> None:
    for name, most in (
        ("epochs", 2**32),
        ("batch_size", 2**63 - 1),
        ("seed", 2**64 - 1),
        ("cutout", 32000),
        ("rotation", 180.0),
    ):
        assert getattr(Recipe(**{name: most}), name) == most
    with pytest.raises(ValueError, match=r"batch_size expects a positive integer below 2\^63, got 9223372036854775808"):
        Recipe(batch_size=2**63)
    for name in ("momentum", "ema", "dropout", "scale"):
        with pytest.raises(ValueError, match=rf"{name} expects a number in \[0, 1\), got 1.0"):
            Recipe(**{name: 1})


def test_fields_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"momentum expects a number above 0 for optimizer muon, got 0\.0"):
        Recipe(optimizer="muon", momentum=0)
    for optimizer in ("sgd", "adamw"):
        assert Recipe(optimizer=optimizer, momentum=0).momentum == 0


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.uint64])
def test_numpy_integers_as_seeds(kind: Any) -> None:
    """In every place where a number goes into the generator of random numbers."""
    expect_same_bits(LeNet(kind(3)).parameter_buffer, LeNet(3).parameter_buffer)
    expect_same_bits(philox(kind(3), kind(2), kind(5), kind(9)), philox(3, 2, 5, 9))
    expect_same_bits(permutation(kind(100), kind(3), kind(1)), permutation(100, 3, 1))
    assert Augmentation(shift=kind(2)).at(kind(3), kind(1)) == Augmentation(shift=2).at(3, 1)
    assert Augmentation(shift=2).at(kind(3), kind(1)).shift(7) == Augmentation(shift=2).at(3, 1).shift(7)
    for wrong in (1.5, np.float64(2), "3", None):
        with pytest.raises(TypeError):
            Augmentation().at(wrong, 0)


def test_a_run_of_numpy_scalars_is_saved_and_resumed(data: Dataset, tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": np.int64(1), "batch_size": np.uint16(500), "lr": np.float32(0.0625), "seed": np.int64(3)}
    path = tmp_path / "state"
    fit(LeNet(3), data, checkpoint=path, test_batch_size=np.int64(70), **given)
    recipe = load_checkpoint(path)[1]["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"], recipe["seed"]) == (1, 500, 0.0625, 3)
    assert fit(LeNet(3), data, resume=path, epochs=1, batch_size=500, lr=0.0625, seed=3).epochs[-1].val_accuracy is not None


def test_a_recipe_in_words() -> None:
    assert str(Recipe(epochs=2, shift=0, weight_decay=0.0, tta=True)) == (
        "epochs 2, batch size 64, optimizer sgd, lr 0.08, momentum 0.9, nesterov, schedule one-cycle, warm up 0.2, "
        "loss cross_entropy, algorithm direct, tta"
    )
    assert "muon lr 0.02" in str(Recipe(optimizer="muon")) and "ema start 0.5" in str(Recipe(ema=0.9))


def test_schedules() -> None:
    line, cosine = Recipe(lr=1.0, warm_up=0.2), Recipe(lr=1.0, warm_up=0.2, schedule="cosine")
    rates = [line.rate(step, 100) for step in range(100)]
    assert rates[19] == 1.0 == max(rates) and rates[0] == 1 / 20
    assert rates[-1] == pytest.approx(1 / 80)
    assert np.diff(rates[:20]) == pytest.approx(1 / 20) and np.diff(rates[20:]) == pytest.approx(-1 / 80)
    assert [Recipe(lr=1.0, warm_up=w).rate(0, 4) for w in (0.0, 1.0)] == [1.0, 0.25]
    curve = [cosine.rate(step, 100) for step in range(100)]
    assert curve[:20] == rates[:20]
    assert curve[20] == 1.0 and curve[60] == pytest.approx(0.5) and 0 < curve[99] < 1e-3


def test_batch_sizes() -> None:
    assert Recipe(batch_size=50).batch_starts(0, 120) == [0, 50, 100, 120]
    growing = Recipe(epochs=2, batch_size=32, batch_size_end=128)
    sizes = [np.diff(growing.batch_starts(epoch, 6000)) for epoch in range(2)]
    for of_epoch in sizes:
        assert of_epoch.sum() == 6000 and (of_epoch[:-1] % 16 == 0).all()
    whole = np.concatenate([of_epoch[:-1] for of_epoch in sizes])
    assert whole[0] == 32 and whole[-1] == 128 and (np.diff(whole) >= 0).all()


def test_the_steps_are_counted_ahead(few: Dataset) -> None:
    """The rate ends where the schedule ends, whatever the batch sizes."""
    rates = []

    class Rates(Callback):
        def batch(self, trainer: Trainer, loss: float, images: int) -> None:
            rates.append(trainer.state.optimizer.lr)

    trainer = Trainer(LeNet.of(EVERYTHING), few, EVERYTHING)
    trainer.run(Rates())
    assert len(rates) == trainer.state.steps
    assert rates == [EVERYTHING.rate(step, trainer.state.steps) for step in range(trainer.state.steps)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW), ("muon", Muon)])
def test_every_optimizer_learns(name: str, kind: type, data: Dataset) -> None:
    recipe = Recipe(optimizer=name, lr=0.002 if "adam" in name else 0.05, epochs=3, batch_size=50, shift=0)
    trainer = Trainer(LeNet.of(recipe), data, recipe)
    assert type(trainer.state.optimizer) is kind
    epochs = trainer.run().epochs
    assert epochs[-1].loss < 0.2 * epochs[0].loss and epochs[-1].val_accuracy is not None and epochs[-1].val_accuracy > 0.9


def test_dropout_needs_its_layers(data: Dataset) -> None:
    assert LeNet.of(EVERYTHING).state_dict().keys() == LeNet().state_dict().keys()
    expect_same_bits(LeNet.of(EVERYTHING).parameter_buffer, LeNet(4).parameter_buffer)
    with pytest.raises(ValueError, match=r"dropout expects a model with nn.Dropout\(0.3\)"):
        fit(LeNet(), data, dropout=0.3)


def test_what_each_epoch_sees(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own order of the images and its own distortions of them; the last epochs see the images as they are."""
    recipe = Recipe(epochs=3, batch_size=500, shift=2, plain_epochs=1, seed=4)
    seen: list[tuple[Any, Any]] = []
    gather = ops.gather_images

    def note(images: Any, index: Any, **options: Any) -> Any:
        if images is data.train_images and options.get("transform", seen) is not seen:
            seen.append((np.array(index), options["transform"]))
        return gather(images, index, **options)

    monkeypatch.setattr(ops, "gather_images", note)
    monkeypatch.setattr("fastlenet.training.trainer.HostStep", TrainingStep)  # which calls it in each step
    trained(data, recipe)
    assert len(seen) == 12
    for epoch in range(3):
        orders, transforms = zip(*seen[4 * epoch : 4 * epoch + 4], strict=True)
        np.testing.assert_array_equal(np.concatenate(orders), permutation(2000, 4, epoch))
        assert set(transforms) == {None if epoch == 2 else recipe.augmentation.at(4, epoch)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 28), {"shift": 2, "cutout": 6, "elastic": 34.0, "elastic_sigma": 4.0}),
        ((40, 28), {"shift": 2, "cutout": 6, "elastic": 34.0, "elastic_sigma": 4.0}),  # the shorter side counts
        ((56, 56), {"shift": 4, "cutout": 12, "elastic": 136.0, "elastic_sigma": 8.0}),
        ((8, 8), {"shift": 1, "cutout": 2, "elastic": 34 * (8 / 28) ** 2, "elastic_sigma": 8 / 7}),
        ((4, 4), {"shift": 0, "cutout": 1, "elastic": 34 / 49, "elastic_sigma": 4 / 7}),
    ],
    ids=str,
)
def test_augmentation_of_other_sizes(size: tuple[int, int], expected: dict[str, float]) -> None:
    """Lengths in pixels are shares of the image; angles and factors stay. So is the displacement, alpha over sigma."""
    recipe = Recipe(shift=2, cutout=6, elastic=34, elastic_sigma=4, rotation=10, scale=0.1, shear=0.2)
    found = recipe.augmentation_for(*size)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)
    assert (found.rotation, found.scale, found.shear) == (10, 0.1, 0.2)
    if size == (28, 28):
        assert found == recipe.augmentation


def test_augmentation_stays_within_its_ranges() -> None:
    found = Recipe(shift=32000, elastic=1e6, elastic_sigma=1000, cutout=32000).augmentation_for(10**4, 10**4)
    assert (found.shift, found.elastic, found.elastic_sigma, found.cutout) == (32000, 1e6, 1000, 32000)
    assert Recipe(elastic=1, elastic_sigma=0.001).augmentation_for(4, 4).elastic_sigma == 0.001
    assert not Recipe(shift=0).augmentation_for(64, 64)


def test_training_uses_the_size_of_its_images(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(data, train_images=data.train_images[:, ::2, ::2], test_images=data.test_images[:, ::2, ::2])
    seen = []
    gather = ops.gather_images

    def watch(*arguments: Any, transform: Any = None, **others: Any) -> Any:
        seen.append(transform)
        return gather(*arguments, transform=transform, **others)

    monkeypatch.setattr(ops, "gather_images", watch)
    fit(LeNet(input_shape=(1, 14, 14)), small, epochs=1, shift=2, plain_epochs=0, evaluate_every_epoch=False, verbose=0)
    assert {transform.augmentation.shift for transform in seen if transform is not None} == {1}


# --- averaged weights, test-time augmentation ---------------------------------------------------------------------------


def test_the_average_of_the_weights(data: Dataset) -> None:
    """Written out in float64 from the weights after each step; it is what is evaluated and what the model then holds."""
    recipe = Recipe(epochs=2, batch_size=500, ema=0.5, ema_start=0.25, ema_every=2, shift=0)
    steps: list[Any] = []

    class Weights(Callback):
        def batch(self, trainer: Trainer, loss: float, images: int) -> None:
            steps.append(trainer.state.model.parameter_buffer.astype(np.float64))

    model, epochs = trained(data, recipe, callbacks=(Weights(),))
    average = steps[1]  # after a quarter of the eight steps
    for step in (3, 5, 7):
        average = 0.5 * average + 0.5 * steps[step]
    # Each update rounds its two products and their sum, to 2^-24 of numbers below the largest weight.
    assert np.abs(model.parameter_buffer - average).max() <= 3 * 3 * 2.0**-24 * np.abs(steps).max()
    assert evaluate(model, data) == (epochs[-1].val_accuracy, epochs[-1].val_loss)


def test_test_time_augmentation(data: Dataset) -> None:
    """The mean of the probabilities of five shifted test sets."""
    model = LeNet(1).eval()
    expected = 0
    for down, right in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        moved = np.roll(data.test_images, (down, right), axis=(1, 2))
        for axis, by in ((1, down), (2, right)):
            if by:
                edge: list[Any] = [slice(None)] * 3
                edge[axis] = 0 if by > 0 else -1
                moved[tuple(edge)] = 0
        expected = expected + predict([model], replace(data, test_images=moved)) / 5
    np.testing.assert_allclose(predict([model], data, 77, tta=True), expected, rtol=1e-12)
    assert evaluate(model, data, tta=True) == score(predict([model], data, tta=True), data.test_labels)
    accuracy, loss = evaluate(model, data)
    # The kernel's loss is a float64 sum of float32 logits' terms, as the NumPy text here: alike but for the order of adding.
    assert score(predict([model], data), data.test_labels) == (accuracy, pytest.approx(loss, rel=1e-6))


# --- the same bits ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_everything_on_is_the_same_to_the_bit(optimizer: str, few: Dataset, tmp_path: Path) -> None:
    """With 1 or 3 threads, evaluated in each epoch or at the end, stopped and resumed at awkward places."""
    sizes, lr = {"batch_size": 50, "batch_size_end": 150}, 0.002 if "adam" in optimizer else 0.05
    recipe = replace(EVERYTHING, **sizes, optimizer=optimizer, lr=lr)
    straight, epochs = trained(few, recipe)
    before = get_num_threads()
    for threads in (1, 3):
        set_num_threads(threads)
        other, _ = trained(few, recipe, evaluate_every_epoch=False)
        set_num_threads(before)
        expect_same_bits(other.parameter_buffer, straight.parameter_buffer)

    class Stop(Callback):
        def batch(self, trainer: Trainer, loss: float, images: int) -> None:
            trainer.stop_requested = (trainer.state.epoch, trainer.state.position) in ((0, 2), (1, 3), (1, 6), (2, 1))

    path = tmp_path / "state"
    for _ in range(4):
        trainer = Trainer(LeNet.of(recipe), few, recipe)
        if path.exists():
            trainer.restore(path)
        with pytest.raises(InterruptedRunError):
            trainer.run(Stop())
        trainer.save(path)
    resumed, again = trained(few, recipe, resume=path)
    expect_same_bits(resumed.parameter_buffer, straight.parameter_buffer)
    assert History(again).history == History(epochs).history


def test_streams_are_separate(data: Dataset) -> None:
    """Another feature's random numbers disturb neither the initial weights nor the order of the images."""
    losses = {}

    class First(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def batch(self, trainer: Trainer, loss: float, images: int) -> None:
            losses.setdefault(self.name, loss)
            trainer.stop_requested = True

    for name, changes in {"plain": {}, "ema": {"ema": 0.9}, "tta": {"tta": True}, "dropout": {"dropout": 0.5}}.items():
        recipe = Recipe(shift=0, seed=2, **changes)
        trainer = Trainer(LeNet.of(recipe), data, recipe)
        with pytest.raises(InterruptedRunError):
            trainer.run(First(name))
    assert losses["plain"] == losses["ema"] == losses["tta"] != losses["dropout"]


# --- sanity -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_starts_at_ln_10(seed: int, data: Dataset) -> None:
    """ln 10 and a little more, averaged over all labels; the true labels are as good as any, before training.

    The loss of an image is log sum exp(z) - z[label]. Its mean over the ten labels is ln 10 plus the Kullback-Leibler
    divergence of softmax(z) from the uniform distribution, which lies between 0 and (max z - min z)^2 / 8 (Hoeffding's lemma).
    One label's loss differs from that mean by at most max z - min z.
    """
    model = LeNet(seed).eval()
    x = model.ops.gather_images(data.test_images, range(500), mean=data.mean, std=data.std)
    logits = model(x)
    spread = float(np.ptp(logits, axis=1).max())
    assert spread < 1  # else this would say little
    mean = np.mean([model.ops.softmax_cross_entropy(logits, np.full(500, label))[0] for label in range(10)])
    assert math.log(10) <= mean <= math.log(10) + spread**2 / 8
    assert abs(evaluate(model, data)[1] - mean) <= spread


def test_one_batch_can_be_learnt_to_zero(data: Dataset) -> None:
    """64 images shown 100 times: every one right, and a loss below 0.001: a probability of 99.9 % for the right class."""
    few = replace(
        data,
        train_images=data.train_images[:64],
        train_labels=data.train_labels[:64],
        test_images=data.train_images[:64],
        test_labels=data.train_labels[:64],
    )
    _, epochs = trained(few, Recipe(epochs=100, batch_size=64, lr=0.05, weight_decay=0.0, shift=0), evaluate_every_epoch=False)
    assert epochs[-1].val_accuracy == 1.0 and epochs[-1].val_loss is not None and epochs[-1].val_loss < 0.001


# --- diverging ----------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_is_never_saved(data: Dataset, tmp_path: Path) -> None:
    """Neither after the step that made it so, nor later; the file keeps the last good state."""
    path, recipe = tmp_path / "state", Recipe(epochs=2, batch_size=100, shift=0)
    trainer = Trainer(LeNet.of(recipe), data, recipe)
    trainer.save(path)
    good = path.read_bytes()

    class Break(Callback):
        def batch(self, trainer: Trainer, loss: float, images: int) -> None:
            if trainer.state.position == 3:
                trainer.state.model.parameter_buffer[7] = np.inf
                with pytest.raises(DivergedError, match="weights are no longer finite in epoch 1 after step 3"):
                    trainer.save(path)

    with pytest.raises(DivergedError, match="the loss is nan in epoch 1 at step 4"):
        trainer.run(Break())
    assert path.read_bytes() == good


def test_a_diverging_command(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    settings = ["--data-dir", small_mnist, "--epochs", 2, "--warm-up", 0.9, "--batch-size", 10]
    result = train_here(*settings, "--lr", "200", "--checkpoint", "state")
    assert result.code == 2 and "a smaller --lr may help" in result.err and result.err.count("\n") == 1
    if (tmp_path / "state").exists():
        assert "state holds the last good state" in result.err
        tensors, _ = load_checkpoint(tmp_path / "state")
        assert all(np.isfinite(array).all() for array in tensors.values())
