"""Shards: a batch in equal parts, whose gradients are added in a fixed binary tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, Recipe, fit, ops
from fastlenet.data import Dataset
from fastlenet.data.idx_folder import load_idx_directory
from fastlenet.philox import permutation
from fastlenet.training.sharded_step import ShardedStep, shard_starts
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.expect import expect_same_bits

RECIPE = Recipe(epochs=1, batch_size=50, shards=8, dropout=0.3, label_smoothing=0.1, seed=3)


@pytest.fixture(scope="module")
def data(small_mnist: Path) -> Dataset:
    whole = load_idx_directory(small_mnist)
    return replace(whole, train_images=whole.train_images[:230], train_labels=whole.train_labels[:230])


@pytest.mark.parametrize(
    ("images", "shards", "sizes"),
    [(64, 4, [16, 16, 16, 16]), (50, 8, [6, 6, 6, 7, 6, 6, 6, 7]), (3, 4, [0, 1, 1, 1]), (1, 2, [0, 1]), (7, 1, [7])],
)
def test_sizes_differ_by_one_image_at_most(images: int, shards: int, sizes: list[int]) -> None:
    assert np.diff(shard_starts(images, shards)).tolist() == sizes


@pytest.mark.parametrize("shards", [3, 6, 12, 1023])
def test_shards_are_a_power_of_two(shards: int) -> None:
    with pytest.raises(ValueError, match=rf"^shards expects a power of two in 1\.\.1024, got {shards}$"):
        Recipe(shards=shards, batch_size=2048)


def test_no_more_shards_than_images() -> None:
    with pytest.raises(ValueError, match=r"^shards expects at most the 64 images of a batch, got 128$"):
        Recipe(shards=128)


def test_a_recipe_names_its_shards() -> None:
    assert "shards" not in str(Recipe())
    assert "shards 4" in str(Recipe(shards=4))


def gradient_of_shard(recipe: Recipe, data: Dataset, first: int, end: int) -> Any:
    """The gradient of images first..end-1 of the first batch, by the ops: the whole batch's masks and scale."""
    model = LeNet.of(recipe)
    model.algorithm = recipe.algorithm
    index = permutation(len(data.train_images), recipe.seed, 0)[:50]
    x = ops.gather_images(
        data.train_images, index, mean=data.mean, std=data.std, transform=recipe.augmentation.at(recipe.seed, 0)
    )
    dropped = LeNet.of(recipe)
    whole = dropped(x)
    model.first_of_batch = first
    logits = model(x[first:end].copy())
    expect_same_bits(logits, whole[first:end])
    labels = data.train_labels[index[first:end]]
    _, dlogits = ops.softmax_cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, batch_size=50)
    model.backward(dlogits)
    return model.gradient_buffer.copy()


def test_the_gradient_is_a_balanced_tree_over_the_shards(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = shard_starts(50, 8)
    leaves = [gradient_of_shard(RECIPE, data, starts[i], starts[i + 1]) for i in range(8)]
    while len(leaves) > 1:
        leaves = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    trainer = Trainer(LeNet.of(RECIPE), data, RECIPE, batches_per_epoch=1)
    seen: list[Any] = []
    monkeypatch.setattr(ShardedStep, "_update", lambda self, average: seen.append(trainer.state.model.gradient_buffer.copy()))
    trainer.run()
    expect_same_bits(seen[0], leaves[0])


def test_fewer_images_than_shards(data: Dataset) -> None:
    """The last batch has 6 images for 8 shards; two of them are empty."""
    recipe = replace(RECIPE, batch_size=56)
    model = LeNet.of(recipe)
    history = fit(model, data, recipe, verbose=0)
    assert np.isfinite(model.parameter_buffer).all() and 0 < history.history["accuracy"][0] < 1


def test_other_shards_are_refused_on_resuming(data: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(LeNet.of(RECIPE), data, RECIPE)
    trainer.stop()
    with pytest.raises(InterruptedRunError):
        trainer.run()
    trainer.save(tmp_path / "state")
    other = replace(RECIPE, shards=4)
    with pytest.raises(ValueError, match=r"does not fit this run; made with shards 8, this run has 4$"):
        Trainer(LeNet.of(other), data, other).restore(tmp_path / "state")
