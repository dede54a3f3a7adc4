"""A teacher: its probabilities of exactly the images that the student sees, the loss, the cache, stopped and resumed runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import Ensemble, LeNet, fit, ops, reference
from fastlenet.augment import Transform, with_views
from fastlenet.data import Dataset
from fastlenet.nn import Flatten, Linear, Sequential
from fastlenet.philox import permutation
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.recipe import RECIPES, Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.step import TrainingStep
from fastlenet.training.teacher import Teacher
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits
from helpers.ranks import run_ranks

Train = Callable[..., Result]

SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 30, "lr": 0.02, "rotation": 10.0, "plain_epochs": 1, "seed": 3}
RECIPE = Recipe(**SHORT, temperature=3.0, mix=0.7, label_smoothing=0.1)


@pytest.fixture(scope="module")
def data(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:170], mnist.train_labels[:170], mnist.test_images[:20], mnist.test_labels[:20]
    return Dataset("few", *arrays, 10, mnist.mean, mnist.std)


def trained(data: Dataset, seed: int) -> LeNet:
    model = LeNet(seed)
    fit(model, data, epochs=1, lr=0.02, batch_size=20, seed=seed, verbose=0)
    return model


@pytest.fixture(scope="module")
def teachers(data: Dataset) -> list[LeNet]:
    """Of other normalisations than the data's, and of one another's algorithm."""
    models = [trained(replace(data, mean=0.2, std=0.4), 1), trained(data, 2)]
    models[1].algorithm = "winograd"
    return models


def student(data: Dataset, teacher: object, recipe: Recipe = RECIPE, **options: Any) -> LeNet:
    model = LeNet.of(recipe)
    fit(model, data, recipe, teacher=teacher, verbose=0, **options)
    return model


class StopAt(Callback):
    """Stops after a step, by its epoch and position."""

    def __init__(self, epoch: int, position: int) -> None:
        self.place = epoch, position

    def batch(self, run: Any, loss: object, images: int) -> None:
        if (run.state.epoch, run.state.position) >= self.place:
            run.stop("here")


# --- what the loss is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "epochs"), [(ops, 1), (ops, 0), (reference, 1)], ids=["ops, distorted", "ops, plain", "reference"]
)
def test_a_step_by_hand(module: Any, epochs: int, data: Dataset, teachers: list[LeNet]) -> None:
    """Loss and weights after the first step: teachers that are called on the images that the student is called on."""
    recipe = replace(RECIPE, epochs=1, plain_epochs=1 - epochs, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    order = permutation(170, recipe.seed, 0)[:30]
    transform = recipe.augmentation.at(recipe.seed, 0) if epochs else None

    def seen(mean: Any, std: Any) -> Any:
        return module.gather_images(data.train_images, order, mean=mean, std=std, transform=transform)

    def softmax(scores: Any) -> Any:
        powers = np.exp(scores.astype(np.float64))
        return powers / powers.sum(axis=1, keepdims=True)

    mean = (softmax(teachers[0](seen(0.2, 0.4))) + softmax(teachers[1](seen(data.mean, data.std)))) / 2
    softened = softmax(np.log(mean) / recipe.temperature)
    model = LeNet(recipe.seed, ops=module, algorithm=recipe.algorithm)
    labels = data.train_labels[order].astype(np.int64)
    options = {"mix": recipe.mix, "temperature": recipe.temperature, "label_smoothing": recipe.label_smoothing}
    logits = model(seen(data.mean, data.std))
    loss, dlogits = reference.softmax_distillation(logits, labels, softened.astype(np.float32), **options)
    model.backward(dlogits)

    other = LeNet.of(recipe, ops=module)
    trainer = Trainer(other, data, recipe, teacher=teachers, batches_per_epoch=1)
    history = trainer.run()
    assert history.epochs[0].loss == pytest.approx(loss, rel=1e-6)
    rate = recipe.rate(0, trainer.state.steps)
    expected = LeNet.of(recipe).parameter_buffer - np.float32(rate) * model.gradient_buffer
    np.testing.assert_allclose(other.parameter_buffer, expected, rtol=0, atol=1e-6 * rate)
    moved = np.abs(other.parameter_buffer - LeNet.of(recipe).parameter_buffer).max()
    assert moved > 1e-3 * rate


def test_without_a_teacher_its_fields_change_no_bit(data: Dataset) -> None:
    plain = student(data, None, Recipe(**SHORT))
    same = student(data, None, Recipe(**SHORT, temperature=7.0, mix=0.2, augmentation_seed=SHORT["seed"]))
    expect_same_bits(plain.parameter_buffer, same.parameter_buffer)
    assert "mix" not in str(Recipe()) and "temperature" not in str(RECIPES["best"])


def test_a_share_of_nothing_is_the_labels_alone(data: Dataset, teachers: list[LeNet]) -> None:
    expect_same_bits(student(data, teachers, replace(RECIPE, mix=0.0)).parameter_buffer, student(data, None).parameter_buffer)
    assert not np.array_equal(student(data, teachers).parameter_buffer, student(data, None).parameter_buffer)


def test_each_network_preprocesses_by_itself(data: Dataset) -> None:
    """The random distortions are shared; they follow each network's own preprocessing, of images that are in any order."""
    teacher = LeNet(4)
    fit(teacher, data, epochs=1, width=14, verbose=0)
    plain = LeNet(4)
    plain.load_state_dict(teacher.state_dict())
    plain.set_facts(mean=teacher.mean, std=teacher.std)
    assert Teacher(plain).fingerprint != Teacher(teacher).fingerprint
    for transform in (RECIPE.augmentation.at(5, 1), None):
        found = Teacher(teacher).log_probabilities(data, transform, lambda images: True)
        seen = with_views(transform, teacher.preprocessing.views(data.train_images))
        x = ops.gather_images(data.train_images, np.arange(170), mean=data.mean, std=data.std, transform=seen)
        scores = teacher.freeze()(x).astype(np.float64)
        expected = scores - scores.max(axis=1, keepdims=True)
        expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        other = Teacher(plain).log_probabilities(data, transform, lambda images: True)
        assert found is not None and other is not None and np.abs(found - other).max() > 0.1
    taught = student(data, [teacher, plain], replace(RECIPE, deskew=True))
    assert taught.preprocessing.deskew and np.isfinite(taught.parameter_buffer).all()


def test_an_ensemble_is_its_members(data: Dataset, tmp_path: Path) -> None:
    members = [trained(data, 1), trained(data, 2)]
    assert Teacher(Ensemble(members)).fingerprint == Teacher(members).fingerprint != Teacher(members[::-1]).fingerprint
    expect_same_bits(student(data, Ensemble(members)).parameter_buffer, student(data, members).parameter_buffer)
    members[0].parameter_buffer[0] += 1
    assert Teacher(members).fingerprint != Teacher([trained(data, 1), members[1]]).fingerprint


def test_an_ensemble_with_weights(data: Dataset) -> None:
    """Beside two networks of the same share, its three count three fifths."""
    models = [trained(data, seed) for seed in range(1, 6)]
    weighted: Any = Ensemble(models[:3])
    weighted.weights = [0.7, 0.0, 0.3]
    teacher = Teacher([weighted, *models[3:]])
    found = teacher.log_probabilities(data, None, lambda images: True)
    each = [model.predict_proba(data.train_images) for model in models]
    expected = 0.6 * (0.7 * each[0] + 0.3 * each[2]) + 0.2 * (each[3] + each[4])
    assert found is not None
    np.testing.assert_allclose(np.exp(found), expected, rtol=0, atol=1e-6)
    assert teacher.fingerprint != Teacher(models).fingerprint


STEPS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon", "algorithm": "winograd", "dropout": 0.3},
    "average": {"ema": 0.9, "ema_every": 2, "class_weight": "balanced"},
    "growing batch, adam": {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size_end": 60},
}


@pytest.mark.parametrize("name", STEPS)
def test_the_captured_step_is_its_ops(name: str, data: Dataset, teachers: list[LeNet], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, **STEPS[name])
    captured = Trainer(LeNet.of(recipe), data, recipe, teacher=teachers)
    captured.run()
    graphs: dict[Any, Any] = captured._step._graphs  # type: ignore[attr-defined]
    assert any(graph is not None for graph in graphs.values())
    monkeypatch.setattr("fastlenet.training.trainer.HostStep", TrainingStep)
    plain = Trainer(LeNet.of(recipe), data, recipe, teacher=teachers)
    plain.run()
    expect_same_bits(captured.state.model.parameter_buffer, plain.state.model.parameter_buffer)
    assert captured.state.history.history == plain.state.history.history


def test_threads_do_not_matter(data: Dataset, teachers: list[LeNet], threads: int) -> None:
    expect_same_bits(student(data, teachers).parameter_buffer, _expected(data, teachers))


_kept: list[Any] = []


def _expected(data: Dataset, teachers: list[LeNet]) -> Any:
    if not _kept:
        _kept.append(student(data, teachers).parameter_buffer)
    return _kept[0]


def test_ranks_do_not_matter(data: Dataset, teachers: list[LeNet]) -> None:
    """Each of two ranks computes half of the shards."""
    recipe = replace(RECIPE, shards=4)

    def run(ranks: Any) -> Any:
        trainer = Trainer(LeNet.of(recipe), data, recipe, teacher=teachers, ranks=ranks)
        trainer.run()
        return trainer.state.model.parameter_buffer

    alone = student(data, teachers, recipe).parameter_buffer
    for shared in run_ranks(2, run):
        expect_same_bits(shared, alone)
    assert np.abs(alone - student(data, teachers).parameter_buffer).max() < 1e-3  # which adds in another order


# --- the cache -------------------------------------------------------------------------------------------------------------


def never(self: Teacher, data: Dataset, transform: Transform | None, proceed: Callable[[int], bool]) -> Any:
    raise AssertionError("the teacher predicts")


def test_found_in_the_cache_it_is_the_same_to_the_bit(
    data: Dataset, teachers: list[LeNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another temperature, share, order and student use the same files; of the last epoch, which is plain, there is one."""
    folder = tmp_path / "a" / "cache"
    expected = student(data, teachers)
    recipe = replace(RECIPE, augmentation_seed=RECIPE.seed)
    other = student(data, teachers, replace(recipe, seed=9, temperature=1.0, mix=1.0))
    expect_same_bits(student(data, teachers, teacher_cache=folder).parameter_buffer, expected.parameter_buffer)
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["epoch0", "epoch1", "plain"]
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "log_probabilities", never)
        expect_same_bits(student(data, teachers, teacher_cache=folder).parameter_buffer, expected.parameter_buffer)
        again = student(data, teachers, replace(recipe, seed=9, temperature=1.0, mix=1.0), teacher_cache=folder)
        expect_same_bits(again.parameter_buffer, other.parameter_buffer)
        for changes in ({"seed": 4}, {"rotation": 11.0}, {"augmentation_seed": 5}):
            with pytest.raises(AssertionError, match="the teacher predicts"):
                student(data, teachers, replace(RECIPE, **changes), teacher_cache=folder)
        for networks in (teachers[:1], teachers[::-1]):
            with pytest.raises(AssertionError, match="the teacher predicts"):
                student(data, networks, teacher_cache=folder)
        with pytest.raises(AssertionError, match="the teacher predicts"):
            student(replace(data, train_images=data.train_images[::-1].copy()), teachers, teacher_cache=folder)


def refused(message: str, data: Dataset, teacher: object, kind: type[Exception] = ValueError, **options: Any) -> None:
    """In one line, before anything of the student has changed."""
    model = LeNet(5)
    before, facts = model.parameter_buffer.copy(), model.facts
    with pytest.raises(kind, match=message) as caught:
        fit(model, data, options.pop("recipe", RECIPE), teacher=teacher, verbose=0, **options)
    assert "\n" not in str(caught.value)
    expect_same_bits(model.parameter_buffer, before)
    assert model.facts is facts and model.training


def test_a_wrong_file_in_the_cache_is_refused(data: Dataset, teachers: list[LeNet], tmp_path: Path) -> None:
    student(data, teachers, teacher_cache=tmp_path)
    first, second, _ = sorted(tmp_path.iterdir())
    good = first.read_bytes()
    first.write_bytes(second.read_bytes())
    refused(r"epoch0-.*: made with another epoch than this run's; delete it", data, teachers, teacher_cache=tmp_path)
    for content in (b"", good[:-1], b"x" * 100):
        first.write_bytes(content)
        refused(r"epoch0-", data, teachers, CheckpointError, teacher_cache=tmp_path)
    LeNet().save(first)
    refused(r"epoch0-.*: not of a teacher's cache; delete it", data, teachers, teacher_cache=tmp_path)
    damaged = bytearray(good)
    damaged[-2] ^= 1
    first.write_bytes(damaged)  # which only its checksum shows
    with pytest.raises(CheckpointError, match=r"epoch0-.*: damaged, it does not have the checksum"):
        student(data, teachers, teacher_cache=tmp_path)
    first.write_bytes(good)
    student(data, teachers, teacher_cache=tmp_path)


def test_a_folder_that_is_none(data: Dataset, teachers: list[LeNet], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused(r"^teacher_cache expects a folder \(", data, teachers, teacher_cache=tmp_path / "file")
    refused(r"^teacher_cache expects a teacher, got none", data, None, teacher_cache=tmp_path)


def test_a_cache_that_cannot_be_written_costs_no_run(
    data: Dataset, teachers: list[LeNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise CheckpointError("cannot be written (No space left on device)")

    monkeypatch.setattr("fastlenet.training.teaching.write_tensors", full)
    with pytest.warns(RuntimeWarning, match=r"^teacher_cache: cannot be written .*; the training goes on without it$") as seen:
        model = student(data, teachers, teacher_cache=tmp_path)
    assert len(seen) == 1
    expect_same_bits(model.parameter_buffer, student(data, teachers).parameter_buffer)


# --- what is refused -------------------------------------------------------------------------------------------------------


def test_a_teacher_that_does_not_fit(data: Dataset, teachers: list[LeNet]) -> None:
    def knowing(model: Sequential, **facts: Any) -> Sequential:
        model.set_facts(**({"mean": 0.1, "std": 0.3} | facts))
        return model

    fits = teachers[0]
    refused(r"^teacher\[1\] expects a model of images of shape \(1, 28, 28\) and 10 classes.*, got one of 7 classes$",
            data, [fits, knowing(LeNet(classes=7))])  # fmt: skip
    refused(r"^teacher\[0\] expects a model of images of shape .*, got one of images of shape \(1, 32, 32\)$",
            data, knowing(LeNet(input_shape=(1, 32, 32))))  # fmt: skip
    refused(r"^teacher\[0\] expects .*, got one that refuses them \(", data, knowing(Sequential(Flatten(), Linear(9, 10))))
    names = ("zero", *map(str, range(1, 10)))
    refused(r"^teacher\[0\] expects a model of the data's classes, in their order: '0', got 'zero'$",
            data, knowing(LeNet(), class_names=names))  # fmt: skip
    refused(r"^teacher\[0\] expects a model that knows how its images are normalised, got one that does not; ", data, LeNet())
    spoilt = knowing(LeNet())
    spoilt.parameters()["fc1.bias"][2] = np.inf
    refused(r"^teacher\[0\]: model expects finite parameters, got NaN or infinity in fc1\.bias$", data, spoilt)
    refused(r"^teacher expects at least one model, got \[\]$", data, [])
    refused(r"^teacher expects a trained Sequential, an Ensemble, or a list of them, got int$", data, 3, TypeError)
    refused(r"^teacher\[1\] expects a trained Sequential, .*, got str$", data, [fits, "file"], TypeError)
    refused(r"^teacher expects a trained Sequential, .*, got QuantizedModel$", data, fits.quantize(data), TypeError)
    refused(r"^loss expects cross_entropy with a teacher, got 'mse'; ", data, fits, recipe=replace(RECIPE, loss="mse"))


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("temperature", 1001), ("mix", -0.1), ("mix", 1.1)])
def test_fields_out_of_range(name: str, value: float) -> None:
    expected = r"a number in \[0\.001, 1000\]" if name == "temperature" else r"a number in \[0, 1\]"
    with pytest.raises(ValueError, match=rf"^{name} expects {expected}, got {float(value)}$"):
        Recipe(**{name: value})


def test_a_loss_that_is_not_finite(data: Dataset, teachers: list[LeNet]) -> None:
    with pytest.raises(DivergedError, match=r"the loss is \S+ in epoch"):
        student(data, teachers, replace(RECIPE, lr=1e30))


# --- stopped and resumed ---------------------------------------------------------------------------------------------------


def interrupted(data: Dataset, teacher: object, path: Path, place: tuple[int, int] = (1, 2)) -> None:
    trainer = Trainer(LeNet.of(RECIPE), data, RECIPE, teacher=teacher)
    with pytest.raises(InterruptedRunError):
        trainer.run(StopAt(*place))
    trainer.save(path)


@pytest.mark.parametrize("place", [(0, 1), (1, 2), (1, 5), (2, 3)], ids=str)
def test_resumed_it_has_the_bits_of_an_undisturbed_run(
    place: tuple[int, int], data: Dataset, teachers: list[LeNet], tmp_path: Path
) -> None:
    interrupted(data, teachers, tmp_path / "state", place)
    model = student(data, teachers, resume=tmp_path / "state", teacher_cache=tmp_path / "cache")
    expect_same_bits(model.parameter_buffer, _expected(data, teachers))


def test_a_checkpoint_knows_its_teacher(data: Dataset, teachers: list[LeNet], tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted(data, teachers, path)
    assert load_checkpoint(path)[1]["teacher"] == Teacher(teachers).fingerprint
    start = rf"^{path}: does not fit this run; made with"
    refused(rf"{start} a teacher; give the same$", data, None, CheckpointError, resume=path)
    refused(rf"{start} another teacher; give the same$", data, teachers[:1], CheckpointError, resume=path)
    refused("made with mix 0.7, this run has 0.5", data, teachers, resume=path, recipe=replace(RECIPE, mix=0.5))
    interrupted(data, None, path)
    refused(rf"^{path}: does not fit this run; made without a teacher; leave it out$", data, teachers, resume=path)


def test_stopped_while_the_teacher_predicts(
    mnist: Dataset, data: Dataset, teachers: list[LeNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts of the images. The run then stands before the epoch."""
    monkeypatch.setattr("fastlenet.training.teacher.BATCH_SIZE", 50)
    parts: list[int] = []

    class Stop(Callback):
        def taught(self, run: Any, images: int) -> None:
            parts.append(images)
            if len(parts) == 6:
                run.stop()

    trainer = Trainer(LeNet.of(RECIPE), data, RECIPE, teacher=teachers, teacher_cache=tmp_path / "cache")
    with pytest.raises(InterruptedRunError):
        trainer.run(Stop())
    assert parts == [50, 50, 50, 20, 50, 50] and len(list((tmp_path / "cache").iterdir())) == 1
    assert (trainer.state.epoch, trainer.state.position) == (1, 0)
    trainer.save(tmp_path / "state")
    monkeypatch.undo()
    expect_same_bits(student(data, teachers, resume=tmp_path / "state").parameter_buffer, _expected(data, teachers))


# --- the command -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """Two files, one of them an ensemble; stopped runs go on with the files that they had, and refuse others."""
    short = ["--data", small_mnist, "--epochs", 1]
    assert train_here(*short, "--ensemble", 2, "--save-model", "two").code == 0
    assert train_here(*short, "--seed", 5, "--save-model", "one").code == 0
    teachers = ["--teacher", "two", "--teacher", "one", "--temperature", 2, "--mix", 0.5]
    result = train_here(*short, *teachers, "--teacher-cache", "cache", "--checkpoint", "state", "--save-model", "taught")
    assert result.code == 0 and "learns from 3 networks too, in two, one: temperature 2.0, mix 0.5" in result.out
    assert len(os.listdir("cache")) == 1
    shown = train_here(*short, *teachers, "--teacher-cache", "cache", "--save-model", "again", "--json")
    said = json.loads(shown.out)["teacher"]
    assert said["files"] == ["two", "one"] and said["networks"] == 3 and said["seconds"] >= 0
    assert said["fingerprint"] == load_checkpoint("state")[1]["teacher"]
    assert Path("again").read_bytes() == Path("taught").read_bytes()
    assert json.loads(train_here(*short, "--json").out)["teacher"] is None

    assert train_here("--resume", "state", "--epochs", 2, "--save-model", "longer").code == 0
    assert train_here(*short, *teachers, "--epochs", 1, "--checkpoint", "other").code == 0
    assert "made with another teacher; give the same" in one_line(train_here("--resume", "other", "--teacher", "one"))
    Path("one").rename("moved")
    assert "one: " in one_line(train_here("--resume", "other", "--epochs", 2))
    result = train_here("--resume", "other", "--epochs", 2, "--teacher", "two", "--teacher", "moved", "--save-model", "longer2")
    assert result.code == 0 and Path("longer").read_bytes() == Path("longer2").read_bytes()


def test_command_lines_that_are_refused(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    data = ["--data", small_mnist]
    (tmp_path / "odd").write_bytes(b"odd")
    LeNet(classes=7).save(tmp_path / "seven")
    assert "no such" in one_line(train_here(*data, "--teacher", "nowhere")).lower()
    assert "odd: " in one_line(train_here(*data, "--teacher", "odd"))
    assert "knows how its images are normalised" in one_line(train_here(*data, "--teacher", "seven"))
    assert "--teacher-cache expects a teacher" in one_line(train_here(*data, "--teacher-cache", "cache"))
    for flags, words in (
        (["--find-lr"], "leave out --teacher"),
        (["--ensemble", 2, "--workers", 1], "--teacher: not on workers"),
        (["--save-model", "odd"], "--teacher and --save-model are both odd"),
        (["--temperature", 0], r"--temperature expects a number in [0.001, 1000], got 0.0"),
    ):
        assert words in one_line(train_here(*data, "--teacher", "odd", *flags))
    assert sorted(os.listdir(tmp_path)) == ["odd", "seven"]
