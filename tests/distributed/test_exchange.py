"""Ranks that share a run: threads of this process, whose sums are the same to the bit for every number of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, Recipe, reference
from fastlenet.data import Dataset
from fastlenet.data.idx_folder import load_idx_directory
from fastlenet.distributed.exchange import TreeRanks
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.history import History
from fastlenet.training.optimizers import OPTIMIZERS
from fastlenet.training.ranks import RanksError
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.expect import expect_same_bits
from helpers.ranks import run_ranks

EVERYTHING = Recipe(
    epochs=2,
    batch_size=50,
    batch_size_end=100,
    shards=4,
    lr=0.05,
    clip_norm=1.0,
    class_weight="balanced",
    label_smoothing=0.1,
    dropout=0.3,
    dropout_fc1=0.1,
    ema=0.9,
    shift=2,
    rotation=5.0,
    elastic=5.0,
    plain_epochs=1,
    seed=4,
)


@pytest.fixture(scope="module")
def data(small_mnist: Path) -> Dataset:
    whole = load_idx_directory(small_mnist)
    return replace(
        whole,
        train_images=whole.train_images[:403],
        train_labels=whole.train_labels[:403],
        test_images=whole.test_images[:150],
        test_labels=whole.test_labels[:150],
    )


def on_ranks(size: int, make: Callable[[TreeRanks | None], Trainer], *callbacks: Callback) -> list[Trainer]:
    """Trains on that many ranks; the callbacks are called on rank 0."""

    def train(ranks: TreeRanks) -> Trainer:
        trainer = make(ranks)
        trainer.run(*(callbacks if ranks.rank == 0 else ()))
        return trainer

    return run_ranks(size, train)


def alone(make: Callable[[TreeRanks | None], Trainer]) -> Trainer:
    trainer = make(None)
    trainer.run()
    return trainer


def maker(data: Dataset, recipe: Recipe, **options: Any) -> Callable[[TreeRanks | None], Trainer]:
    return lambda ranks: Trainer(LeNet.of(recipe), data, recipe, ranks=ranks, test_batch_size=40, **options)


def expect_same_run(trainer: Trainer, other: Trainer) -> None:
    expect_same_bits(trainer.state.model.parameter_buffer, other.state.model.parameter_buffer)
    for name, buffer in other.state.optimizer.state_dict().items():
        expect_same_bits(trainer.state.optimizer.state_dict()[name], buffer)
    assert History(trainer.state.history.epochs).history == History(other.state.history.epochs).history
    assert trainer.state.model.dropout_counter == other.state.model.dropout_counter


# --- the exchange ---------------------------------------------------------------------------------------------------------


def tree(leaves: list[Any]) -> Any:
    while len(leaves) > 1:
        leaves = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    return leaves[0]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("length", [0, 1, 3, 1000])
def test_the_sum_is_a_balanced_tree(size: int, length: int) -> None:
    rng = np.random.default_rng(length)
    leaves = [rng.normal(size=length).astype(np.float32) for _ in range(size)]

    def add(ranks: TreeRanks) -> Any:
        buffer = leaves[ranks.rank].copy()
        ranks.sum(buffer)
        return buffer

    for buffer in run_ranks(size, add):
        expect_same_bits(buffer, tree(list(leaves)))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_gather(size: int) -> None:
    def gather(ranks: TreeRanks) -> Any:
        return ranks.gather(np.array([ranks.rank, -1.5])), ranks.gather_texts("ä" * ranks.rank), ranks.names

    for numbers, texts, names in run_ranks(size, gather):
        np.testing.assert_array_equal(numbers, [[rank, -1.5] for rank in range(size)])
        assert texts == ["ä" * rank for rank in range(size)] and names == [f"rank {rank}" for rank in range(size)]


# --- training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", ["muon", *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS if name != "muon")]
)
def test_the_number_of_ranks_does_not_matter(optimizer: str, data: Dataset) -> None:
    loss = "mse" if optimizer == "adam" else "cross_entropy"
    recipe = replace(EVERYTHING, optimizer=optimizer, lr=0.002 if "adam" in optimizer else 0.05, loss=loss)
    make = maker(data, recipe, sample_weight=np.linspace(0.5, 1.5, 403))
    one = alone(make)
    for size in (2, 4):
        for trainer in on_ranks(size, make):
            expect_same_run(trainer, one)


def test_every_rank_has_test_time_augmentation(data: Dataset) -> None:
    make = maker(data, replace(EVERYTHING, tta=True, epochs=1))
    one = alone(make)
    for trainer in on_ranks(2, make):
        expect_same_run(trainer, one)


class StopAt(Callback):
    """Stops the run after this step of its second epoch."""

    def __init__(self, position: int) -> None:
        self._position = position

    def batch(self, run: Any, loss: Any, images: int) -> None:
        if (run.state.epoch, run.state.position) == (1, self._position):
            run.stop()


def test_stopped_and_resumed_on_other_ranks(data: Dataset, tmp_path: Path) -> None:
    """One rank asks to stop; all of them stop after the next step. Another number of ranks goes on."""
    make = maker(data, EVERYTHING)

    def stopped(ranks: TreeRanks) -> int:
        trainer = make(ranks)
        with pytest.raises(InterruptedRunError):
            trainer.run(*([StopAt(2)] if ranks.rank == 1 else []))
        if ranks.rank == 0:
            trainer.save(tmp_path / "state")
        return trainer.state.position

    assert run_ranks(4, stopped) == [3] * 4

    def resumed(ranks: TreeRanks | None) -> Trainer:
        trainer = make(ranks)
        trainer.restore(tmp_path / "state")
        return trainer

    straight = alone(make)
    expect_same_run(alone(resumed), straight)
    for trainer in on_ranks(2, resumed):
        expect_same_run(trainer, straight)


def test_stopped_at_the_end_of_an_epoch(data: Dataset) -> None:
    class Stop(Callback):
        def epoch(self, run: Any, epoch: Any) -> None:
            run.stop()

    def train(ranks: TreeRanks) -> int:
        trainer = maker(data, EVERYTHING)(ranks)
        with pytest.raises(InterruptedRunError):
            trainer.run(*([Stop()] if ranks.rank == 0 else []))
        return trainer.state.epoch

    assert run_ranks(2, train) == [1, 1]


def test_other_parameters_are_found_before_they_are_saved(data: Dataset, tmp_path: Path) -> None:
    """Within an epoch too: ranks compare themselves before a checkpoint is written."""
    path = tmp_path / "state"

    class Flip(Callback):
        def batch(self, run: Any, loss: Any, images: int) -> None:
            if (run.state.epoch, run.state.position) == (1, 1):
                run.state.model.parameter_buffer.view(np.uint32)[7] ^= 1

    def train(ranks: TreeRanks) -> str:
        trainer = maker(data, EVERYTHING)(ranks)
        with pytest.raises(RanksError) as caught:
            trainer.run(*([Saver(path, 0)] if ranks.rank == 0 else [Flip()] if ranks.rank == 1 else []))
        return str(caught.value)

    assert set(run_ranks(4, train)) == {"rank 1 has other parameters than rank 0 in epoch 2 after step 2"}
    trainer = maker(data, EVERYTHING)(None)
    trainer.restore(path)
    trainer.run()
    expect_same_run(trainer, alone(maker(data, EVERYTHING)))


def test_checkpoints_within_an_epoch(data: Dataset, tmp_path: Path) -> None:
    """After the ranks have compared themselves, in the step after the one in which it became due."""
    seen: list[tuple[int, int]] = []

    class Spy(Saver):
        def save(self, run: Any) -> None:
            seen.append((run.state.epoch, run.state.position))
            super().save(run)

    on_ranks(2, maker(data, EVERYTHING), Spy(tmp_path / "state", 0))
    assert (0, 2) in seen and (0, 1) not in seen and (1, 0) in seen


def test_shards_are_a_multiple_of_the_ranks(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"^shards expects a multiple of the 4 ranks, got 2$"):
        on_ranks(4, maker(data, replace(EVERYTHING, shards=2)))
    with pytest.raises(ValueError, match=r"^shards expects a multiple of the 2 ranks, got 1$"):
        on_ranks(2, maker(data, replace(EVERYTHING, shards=1)))


def test_a_loss_that_diverges_ends_all_ranks(data: Dataset) -> None:
    def train(ranks: TreeRanks) -> str:
        with pytest.raises(FloatingPointError) as caught, np.errstate(all="ignore"):
            maker(data, replace(EVERYTHING, lr=1e30, optimizer="sgd", clip_norm=0.0))(ranks).run()
        return str(caught.value)

    assert len(set(run_ranks(2, train))) == 1


@pytest.mark.slow
def test_the_reference(data: Dataset) -> None:
    """Another backend, with NumPy's arithmetic."""
    few = replace(
        data,
        train_images=data.train_images[:40],
        train_labels=data.train_labels[:40],
        test_images=data.test_images[:10],
        test_labels=data.test_labels[:10],
    )
    recipe = replace(EVERYTHING, epochs=1, batch_size=20, batch_size_end=0, elastic=0.0)

    def make(ranks: TreeRanks | None) -> Trainer:
        return Trainer(LeNet.of(recipe, ops=reference), few, recipe, ranks=ranks)

    one = alone(make)
    for trainer in on_ranks(2, make):
        expect_same_run(trainer, one)


@pytest.mark.cuda
def test_the_gpu(data: Dataset) -> None:
    """Its gradients come to the host and back; the sums have the bits of one process."""
    from fastlenet import cuda

    few = replace(
        data,
        train_images=data.train_images[:44],
        train_labels=data.train_labels[:44],
        test_images=data.test_images[:8],
        test_labels=data.test_labels[:8],
    )
    recipe = replace(EVERYTHING, epochs=1, batch_size=16, batch_size_end=0, shards=2, plain_epochs=0, elastic=0.0)

    def make(ranks: TreeRanks | None) -> Trainer:
        return Trainer(LeNet.of(recipe, ops=cuda), few, recipe, ranks=ranks, test_batch_size=4)

    one = alone(make)
    for trainer in on_ranks(2, make):
        expect_same_run(trainer, one)
