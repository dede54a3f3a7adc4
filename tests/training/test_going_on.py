"""A run goes on elsewhere, longer or shorter: what may change at --resume, what it then means, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, _core, nn
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.nn import Flatten, Linear, Sequential
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError, OtherLevelError, load_checkpoint, save_checkpoint
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.fit import fit
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits
from helpers.idx import write_idx

Train = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny_mnist(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 400 training and 100 test images."""
    folder = tmp_path_factory.mktemp("tiny_mnist")
    write_idx(folder / "train-images-idx3-ubyte", mnist.train_images[:400])
    write_idx(folder / "train-labels-idx1-ubyte", mnist.train_labels[:400])
    write_idx(folder / "t10k-images-idx3-ubyte", mnist.test_images[:100])
    write_idx(folder / "t10k-labels-idx1-ubyte", mnist.test_labels[:100])
    return folder


# --- another place ---


@pytest.fixture
def run_of_one_epoch(train_here: Train, tiny_mnist: Path, tmp_path: Path) -> Path:
    """A folder with the data in d1, given by a relative path, and the checkpoint state of a run on them."""
    shutil.copytree(tiny_mnist, tmp_path / "d1")
    assert train_here("--data-dir", "d1", "--epochs", 1, "--checkpoint", "state").code == 0
    return tmp_path


def test_other_words_for_the_same_folder(run_of_one_epoch: Path, train_here: Train) -> None:
    for folder in ("d1", "./d1", "d1/", "../" + run_of_one_epoch.name + "/d1", run_of_one_epoch / "d1"):
        result = train_here("--resume", "state", "--data-dir", folder)
        assert result.code == 0, result.err


def test_from_another_folder(run_of_one_epoch: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of the data was relative; it means what it meant when the run began."""
    (run_of_one_epoch / "elsewhere").mkdir()
    monkeypatch.chdir(run_of_one_epoch / "elsewhere")
    result = train_here("--resume", "../state")
    assert result.code == 0, result.err


def test_the_data_moved(run_of_one_epoch: Path, train_here: Train) -> None:
    """Compressed meanwhile, too: to the same bits as on the old path. Without a new path, one line says what is missing."""
    shutil.copy("state", "other_state")
    settings = ["--epochs", 2, "--quiet"]
    assert train_here("--resume", "other_state", *settings, "--save-model", "there").code == 0
    Path("d2").mkdir()
    for path in Path("d1").iterdir():
        Path("d2", f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    shutil.rmtree("d1")
    message = one_line(train_here("--resume", "state"))
    assert f"state was made on the data in {run_of_one_epoch / 'd1'}, which is not there" in message
    assert message.endswith("name them with --data")
    assert train_here("--resume", "state", *settings, "--data-dir", "d2", "--save-model", "here").code == 0
    assert Path("here").read_bytes() == Path("there").read_bytes()
    assert train_here("--resume", "state").code == 0  # which now knows the new place


def test_other_data_are_refused(run_of_one_epoch: Path, train_here: Train, small_mnist: Path) -> None:
    before = Path("state").read_bytes()
    message = one_line(train_here("--resume", "state", "--data-dir", small_mnist))
    assert message.endswith(f"state: does not fit this run; made on other training data than {small_mnist.name}")
    assert "no such folder" in one_line(train_here("--resume", "state", "--data-dir", "nowhere"))
    assert Path("state").read_bytes() == before


def test_what_else_may_change(run_of_one_epoch: Path, train_here: Train) -> None:
    """The size of the evaluation's batches, the name of a file of weights, another spelling of the same checkpoint."""
    assert train_here("--resume", "state", "--test-batch-size", 7).code == 0
    assert train_here("--resume", "state", "--load-model", "anything").code == 0
    for name in ("state", "./state", run_of_one_epoch / "state", f"../{run_of_one_epoch.name}/state"):
        result = train_here("--resume", "state", "--checkpoint", name)
        assert result.code == 0, result.err
    Path("link").symlink_to("state")
    assert train_here("--resume", "state", "--checkpoint", "link").code == 0
    shutil.copy("state", "copy")
    assert "copy: exists" in one_line(train_here("--resume", "state", "--checkpoint", "copy"))


def test_normalisation_comes_along(tiny_mnist: Path, tmp_path: Path) -> None:
    """The same images, whose mean someone rounded: the run goes on with the numbers it began with."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    rounded = replace(data, mean=0.13, std=0.31)
    recipe = Recipe(epochs=2, batch_size=50)
    run = Trainer(LeNet(), rounded, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(1, 2))
    run.save(path)
    models = []
    for there in (data, rounded):
        models.append(LeNet())
        fit(models[-1], there, recipe, resume=path)
    expect_same_bits(models[0].parameter_buffer, models[1].parameter_buffer)


def test_normalisation_in_numbers_of_numpy(tiny_mnist: Path, tmp_path: Path) -> None:
    data = replace(load_idx_directory(tiny_mnist), mean=np.float32(0.13), std=np.float32(0.31))
    recipe = Recipe(epochs=1, batch_size=100)
    fit(network(), data, recipe, checkpoint=tmp_path / "state")
    assert len(fit(network(), data, recipe, resume=tmp_path / "state").epochs) == 1


def test_normalisation_comes_along_to_all_networks(tiny_mnist: Path, tmp_path: Path) -> None:
    """Those of an ensemble that are begun after the resumption, too."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    rounded, recipe = replace(data, mean=0.13, std=0.31), Recipe(epochs=1, batch_size=50)

    def run_on(there: Dataset) -> EnsembleRun:
        return EnsembleRun(lambda member: Trainer(LeNet(member), there, replace(recipe, seed=member)), 2)

    first = run_on(rounded)
    first.trainer.run()
    first.trainer.save(path)
    moved = run_on(data)
    moved.restore(path, 0)
    for ours, expected in zip(moved.run(), run_on(rounded).run(), strict=True):
        for name, array in expected.items():
            expect_same_bits(ours[name], array)


# --- another length ---


class StopAt(Callback):
    def __init__(self, epoch: int, position: int) -> None:
        self.place = epoch, position

    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        trainer.stop_requested = (trainer.state.epoch, trainer.state.position) >= self.place


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        self.rates.append(trainer.state.optimizer.lr)


def network() -> Sequential:
    return Sequential(Flatten(), Linear(784, 10))


@pytest.mark.parametrize("place", [(1, 3), (2, 0)], ids=["in an epoch", "finished"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_longer(place: tuple[int, int], schedule: str, tiny_mnist: Path, tmp_path: Path) -> None:
    """From the step at hand on the rate is that of the new length; nothing else is other than in a run without a break."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    old = Recipe(epochs=2, batch_size=64, schedule=schedule, warm_up=0.3)
    new = replace(old, epochs=5)
    run, steps = Trainer(network(), data, old), place[0] * 7 + place[1]
    if place[1]:
        with pytest.raises(InterruptedRunError):
            run.run(StopAt(*place))
    else:
        run.run()
    run.save(path)
    longer, rates = network(), Rates()
    history = fit(longer, data, new, resume=path, checkpoint=path, callbacks=(rates,))
    assert rates.rates == [new.rate(step, 35) for step in range(steps, 35)]
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4, 5]
    straight = Trainer(network(), data, new, rate=lambda step: old.rate(step, 14) if step < steps else new.rate(step, 35))
    expected = straight.run()
    expect_same_bits(longer.parameter_buffer, straight.state.model.parameter_buffer)
    assert [epoch.loss for epoch in history.epochs] == [epoch.loss for epoch in expected.epochs]
    assert load_checkpoint(path)[1]["recipe"]["epochs"] == 5
    fit(network(), data, new, resume=path)  # finished, of the new length


def test_in_python_by_epochs_alone(tiny_mnist: Path, tmp_path: Path) -> None:
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(network(), data, epochs=1, checkpoint=path)
    assert len(fit(network(), data, epochs=2, resume=path).epochs) == 2


@pytest.mark.parametrize("epochs", [2, 6])
def test_growing_batches(epochs: int, tiny_mnist: Path, tmp_path: Path) -> None:
    """The schedule of another length ends where the run does; a run that is interrupted once more comes to the same bits."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    old = Recipe(epochs=4, batch_size=16, batch_size_end=96)
    new = replace(old, epochs=epochs)
    run = Trainer(network(), data, old)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(1, 4))
    run.save(path)
    straight, rates = Trainer(network(), data, new), Rates()
    straight.restore(path)
    straight.run(rates)
    assert straight.state.optimizer.steps == straight.state.steps
    assert rates.rates[-1] == new.rate(straight.state.steps - 1, straight.state.steps)
    again = Trainer(network(), data, new)
    again.restore(path)
    with pytest.raises(InterruptedRunError):
        again.run(StopAt(1, again.state.position + 3))
    again.save(path)
    resumed = Trainer(network(), data, new)
    resumed.restore(path)
    assert resumed.state.schedule_note == ""
    resumed.run()
    expect_same_bits(resumed.state.model.parameter_buffer, straight.state.model.parameter_buffer)
    losses = [[epoch.loss for epoch in trainer.state.history.epochs] for trainer in (straight, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == epochs


def test_shorter(tiny_mnist: Path, tmp_path: Path) -> None:
    """No fewer epochs than are done, or begun."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=9, batch_size=64)
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(2, 3))
    run.save(path)
    with pytest.raises(CheckpointError, match="does not fit this run; epochs expects at least 3, where it stands, got 2"):
        fit(network(), data, recipe, epochs=2, resume=path)
    rates = Rates()
    history = fit(network(), data, recipe, epochs=3, resume=path, callbacks=(rates,))
    assert len(history.epochs) == 3 and rates.rates == [replace(recipe, epochs=3).rate(step, 21) for step in range(17, 21)]


def test_the_average_of_another_length(tiny_mnist: Path, tmp_path: Path) -> None:
    """Begins at its share of the new length; where that is past, at once; where it is still to come, anew."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=8, batch_size=64, ema=0.9, ema_start=0.5)  # 7 steps an epoch: begins with step 28
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(2, 1))
    run.save(path)
    shorter = Trainer(network(), data, replace(recipe, epochs=4))  # would have begun with step 14, of 15 that are done
    shorter.restore(path)
    expect_same_bits(shorter.state.average["parameters"], run.state.model.parameter_buffer)
    expected = run.state.model.parameter_buffer.astype(np.float64)
    with pytest.raises(InterruptedRunError):
        shorter.run(StopAt(2, 2))
    expected = 0.9 * expected + 0.1 * shorter.state.model.parameter_buffer
    np.testing.assert_allclose(shorter.state.average["parameters"], expected, rtol=1e-5, atol=1e-7)
    shorter.stop_requested = False
    shorter.run()
    shorter.save(path)
    longer = Trainer(network(), data, replace(recipe, epochs=10))  # begins with step 35, of 28 that are done
    longer.restore(path)
    seen = {}

    class Look(Callback):
        def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
            state = trainer.state
            seen[state.optimizer.steps] = state.average["parameters"].tobytes() == state.model.parameter_buffer.tobytes()

    longer.run(Look())
    assert [step for step, same in seen.items() if same] == [35]


def test_the_command_says_what_the_rate_does(run_of_one_epoch: Path, train_here: Train) -> None:
    result = train_here("--resume", "state", "--epochs", 3)
    assert result.code == 0, result.err
    note = "3 epochs instead of 1: the learning rate goes on as in a run of 21 steps, from step 7 on"
    assert note in result.out.splitlines() and "epoch 3/3" in result.out
    again = train_here("--resume", "state")
    assert again.code == 0 and "instead of" not in again.out and again.out.splitlines()[-1] == result.out.splitlines()[-1]
    message = one_line(train_here("--resume", "state", "--epochs", 2))
    assert message.endswith("--epochs 2: state has reached epoch 3; give at least 3")


def test_ensembles(train_here: Train, tiny_mnist: Path, tmp_path: Path) -> None:
    """While the first network is trained the length may change for all; afterwards those that are finished cannot go on."""
    settings = ["--data-dir", tiny_mnist, "--epochs", 1, "--ensemble", 2]
    assert train_here(*settings, "--checkpoint", "state").code == 0
    message = one_line(train_here("--resume", "state", "--epochs", 2))
    assert message.endswith("--epochs 2: state holds a network finished after 1 epoch; leave --epochs out")
    assert train_here("--resume", "state", "--epochs", 1).code == 0
    first = Trainer(LeNet(), load_idx_directory(tiny_mnist), replace(recipe_in("state"), seed=0), settings=settings_in("state"))
    first.run()
    first.save("state")
    result = train_here("--resume", "state", "--epochs", 2, "--save-model", "resumed")
    assert result.code == 0, result.err
    assert result.out.count("epoch 2/2") == 2 and "network 2 of 2" in result.out


def recipe_in(path: str) -> Recipe:
    return Recipe(**load_checkpoint(path)[1]["recipe"])


def settings_in(path: str) -> dict[str, Any]:
    settings: dict[str, Any] = load_checkpoint(path)[1]["settings"]
    return settings


# --- what is refused ---


def test_another_level_in_words_of_python(tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(network(), data, epochs=1, checkpoint=path)
    monkeypatch.setattr("fastlenet.training.checkpoint._level", lambda model: "another")
    with pytest.raises(
        OtherLevelError, match=r"another, whose last bits differ; .*or allow it with allow_level_change=True$"
    ) as caught:
        fit(network(), data, epochs=1, resume=path)
    assert "--" not in str(caught.value) and f"level {_core.level()}" in str(caught.value) and caught.value.field == "level"
    assert len(fit(network(), data, epochs=1, resume=path, allow_level_change=True).epochs) == 1


def test_another_network_of_the_same_shapes(tiny_mnist: Path, tmp_path: Path) -> None:
    """Layers without parameters would not be missed by their shapes."""

    def made(activation: nn.Layer, *others: nn.Layer) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), activation, *others, names=["a\n", *"bcde"[: 2 + len(others)]])

    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(made(nn.ReLU()), data, epochs=1, checkpoint=path)
    for model, message in (
        (made(nn.Tanh()), r"made with another network; c ReLU there, c Tanh here$"),
        (made(nn.ReLU(), nn.ReLU()), r"made with another network; no more layer there, d ReLU here$"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fit(model, data, epochs=2, resume=path)
    assert len(fit(made(nn.ReLU()), data, epochs=2, resume=path).epochs) == 2


Change = Callable[[dict[str, Any], dict[str, Any]], Any]  # of the tensors and the facts
FORGERIES: dict[str, tuple[Change, str]] = {
    "no facts": (lambda tensors, facts: facts.clear(), "the facts lacks version"),
    "counter": (lambda tensors, facts: facts.update(dropout_counter=2**64), "dropout_counter in the facts expects a count"),
    "infinite": (lambda tensors, facts: facts.update(position=float("inf")), "position in the facts expects a count, got inf"),
    "NaN": (lambda tensors, facts: facts.update(epoch=float("nan")), "epoch in the facts expects a count, got nan"),
    "negative": (lambda tensors, facts: facts.update(steps=-1), "steps in the facts expects a count, got -1"),
    "true": (lambda tensors, facts: facts.update(epoch=True), "epoch in the facts expects a count, got True"),
    "sums": (
        lambda tensors, facts: facts.update(sums=[0.0, 0, 0]),
        "sums expects a number, the images that",
    ),
    "recipe": (lambda tensors, facts: facts.update(recipe=[]), "recipe in the facts expects an object"),
    "recipe's field": (lambda tensors, facts: facts["recipe"].pop("lr"), "its recipe is another version's; it differs in 'lr'"),
    "recipe's value": (lambda tensors, facts: facts["recipe"].update(lr="high"), "lr in its recipe expects float, got 'high'"),
    "network": (lambda tensors, facts: facts.update(network=[3]), r"network expects words, got \[3\]"),
    "steps": (lambda tensors, facts: facts.update(steps=15), "made for 15 steps"),
    "far": (lambda tensors, facts: facts.update(position=10**9, sums=[0.0, 0, 10**12, 0.0]), "where no batch is left"),
    "place": (lambda tensors, facts: facts.update(position=0), "there is no such place"),
    "history": (lambda tensors, facts: facts["history"].clear(), "0 epochs in its history, of 1"),
    "epoch": (lambda tensors, facts: facts["history"][0].update(loss=None), "loss in its history expects a finite number"),
    "no weight": (lambda tensors, facts: tensors.pop("model.1.bias"), "model: 1.bias is missing"),
    "stranger": (lambda tensors, facts: tensors.update(a=np.zeros(1)), "'a' is not of a run"),
    "weight's type": (lambda tensors, facts: halve(tensors, "model.1.bias"), "model: 1.bias expects float32, got float16"),
    "weight": (lambda tensors, facts: tensors["model.1.bias"].fill(np.nan), "model: 1.bias holds a number that is not finite"),
    "average": (
        lambda tensors, facts: tensors["average.parameters"].fill(np.inf),
        "average: parameters holds a number that is not finite",
    ),
    "moment": (
        lambda tensors, facts: tensors["optimizer.first_moment"].fill(np.nan),
        "AdamW: state: first_moment holds a number that is not finite",
    ),
    "square": (lambda tensors, facts: tensors["optimizer.second_moment"].fill(-1), "second_moment expects a mean of squares"),
    "steps' type": (lambda tensors, facts: halve(tensors, "optimizer.steps"), "steps expects int64, got float16"),
    "steps' shape": (
        lambda tensors, facts: tensors.update({"optimizer.steps": np.array(10)}),
        r"steps expects shape \(1,\), got \(\)",
    ),
    "steps' value": (lambda tensors, facts: tensors["optimizer.steps"].fill(-3), "steps expects a count, got -3"),
}


def halve(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = tensors[name].astype(np.float16)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_right_checksum_is_not_enough(name: str, tiny_mnist: Path, tmp_path: Path) -> None:
    """A checkpoint of which something makes no sense is refused in one line, before anything in the run changes."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=2, batch_size=64, optimizer="adamw", lr=1e-3, ema=0.9, ema_start=0.1)
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(1, 3))
    run.save(path)
    tensors, facts = load_checkpoint(path)
    forge, message = FORGERIES[name]
    forge(tensors, facts)
    save_checkpoint(path, tensors, facts)
    fresh = Trainer(network(), data, recipe)
    before = {name: array.tobytes() for part in fresh.state.tensors().values() for name, array in part.items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        fresh.restore(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "--" not in str(caught.value)
    assert {name: array.tobytes() for part in fresh.state.tensors().values() for name, array in part.items()} == before
    state = fresh.state
    assert (state.epoch, state.position, state.images, state.model.dropout_counter, state.history.epochs) == (0, 0, 0, 0, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "x"),
        ("ensemble", 0),
        ("data_dir", 7),
        ("device", "tpu"),
        ("recipe", "mine"),
        ("data", 7),
        ("network", "x"),
        ("dry_run", 1),
    ],
)
def test_forged_settings(name: str, value: Any, run_of_one_epoch: Path, train_here: Train) -> None:
    tensors, facts = load_checkpoint("state")
    facts["settings"][name] = value
    save_checkpoint("state", tensors, facts)
    assert f"{name} in its settings expects" in one_line(train_here("--resume", "state"))


def test_forged_members(run_of_one_epoch: Path, train_here: Train) -> None:
    """Networks in a plain run's checkpoint, and a seed that is none of the run's."""
    tensors, facts = load_checkpoint("state")
    save_checkpoint("state", tensors | {"passenger.member0.a": np.ones(1, np.float32)}, facts)
    assert "holds 1 finished networks, not 0" in one_line(train_here("--resume", "state"))
    facts["recipe"]["seed"] = 2**64 - 1
    save_checkpoint("state", tensors, facts)
    assert "of seed 18446744073709551615, this run has 0 to 0" in one_line(train_here("--resume", "state"))


def test_the_shape_of_a_number_counts(tmp_path: Path) -> None:
    """The checksum tells an array of one number from a number; a number stays one."""
    path = tmp_path / "state"
    save_checkpoint(path, {"a": np.array(2.5, np.float32)}, {})
    assert load_checkpoint(path)[0]["a"].shape == ()
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header["a"]["shape"] = [1]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[-4:])
    with pytest.raises(CheckpointError, match="do not have the checksum"):
        load_checkpoint(path)


def test_big_endian_and_transposed(tmp_path: Path) -> None:
    """An array's layout in memory is not what is saved."""
    array = np.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "state", {"big": array.astype(">f4"), "turned": array.T}, {})
    loaded, _ = load_checkpoint(tmp_path / "state")
    np.testing.assert_array_equal(loaded["big"], array)
    np.testing.assert_array_equal(loaded["turned"], array.T)
    with pytest.raises(TypeError, match=r"name expects one of .*<f4.*, got <c8"):
        save_checkpoint(tmp_path / "state", {"name": np.zeros(2, np.complex64)}, {})
