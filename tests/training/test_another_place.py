"""A run goes on in another folder, on data that moved or were normalised otherwise; not on other data."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.fit import fit
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits
from helpers.runs import StopAt, network

Train = Callable[..., Result]


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
