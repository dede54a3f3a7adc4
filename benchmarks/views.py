"""Compares sets of views for test-time augmentation on ten folds of the training images; the test images are never read.

    python benchmarks/views.py FOLDER    # trains a network per fold, which FOLDER keeps, two at a time; goes on after a stop

A fold trains `best` on nine tenths of the 60,000 training images, with seed 100 and the fold's number, and classifies the other
tenth by the mean of the probabilities over the views of a set. The table has the mean accuracy of the folds, and the difference
from the image alone with the half width of its 95 % interval (Student's t over the folds). Writes results/views.json.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import fastlenet
from fastlenet import RECIPES, LeNet
from fastlenet.backend import Array
from fastlenet.data import load_mnist
from fastlenet.inference.forward import softmax
from fastlenet.training.trainer import Trainer
from learning import FOLDS, interval
from measuring import print_table, save

BATCH = 1000
View = tuple[float, float, float, float, float]  # rotation in degrees, scale, shear, pixels down, pixels right
ALONE: View = (0, 1, 0, 0, 0)
EDGES: list[View] = [(0, 1, 0, down, right) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]
CORNERS: list[View] = [(0, 1, 0, down, right) for down, right in product((-1, 1), repeat=2)]
TURNS: list[View] = [(-7, 1, 0, 0, 0), (7, 1, 0, 0, 0)]
SIZES: list[View] = [(0, 0.95, 0, 0, 0), (0, 1.05, 0, 0, 0)]
SLANTS: list[View] = [(0, 1, -0.1, 0, 0), (0, 1, 0.1, 0, 0)]
HALVES: list[View] = [(0, 1, 0, down / 2, right / 2) for _, _, _, down, right in EDGES]
SETS: dict[str, list[View]] = {
    "the image alone": [ALONE],
    "4 shifts": [ALONE, *EDGES],
    "8 shifts": [ALONE, *EDGES, *CORNERS],
    "4 shifts by half a pixel": [ALONE, *HALVES],
    "4 shifts, 2 rotations by 7 degrees": [ALONE, *EDGES, *TURNS],
    "4 shifts, 2 scales by 5 %": [ALONE, *EDGES, *SIZES],
    "4 shifts, 2 shears by 0.1": [ALONE, *EDGES, *SLANTS],
    "8 shifts, 2 rotations, 2 scales, 2 shears": [ALONE, *EDGES, *CORNERS, *TURNS, *SIZES, *SLANTS],
}


def sampling(view: View, side: int) -> Array:
    """The map (2, 3) by which gather_images samples an image of side x side for a view: about its centre."""
    degrees, scale, shear, down, right = view
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, 0], [shear, 1]]) / scale
    centre = np.full(2, (side - 1) / 2)
    offset = centre - matrix @ (centre + np.array([down, right]))
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


def correct_of(fold: int, folder: Path) -> tuple[int, list[int]]:
    """The number of the fold's images, and how many of them each set classifies correctly."""
    fastlenet.set_num_threads(1)
    data, path = load_mnist().fold(FOLDS, fold), folder / f"fold{fold}.safetensors"
    if not path.exists():
        recipe = replace(RECIPES["best"], seed=100 + fold)
        fresh = LeNet.of(recipe)
        Trainer(fresh, data, recipe, evaluate_every_epoch=False).run()
        fresh.save(path)
    model = fastlenet.load(path)
    assert isinstance(model, LeNet)
    images, labels = data.part("validation")

    def probabilities(view: View) -> Array:
        parts = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            maps = np.repeat(sampling(view, batch.shape[-1])[None], len(batch), axis=0)
            x = model.ops.gather_images(batch, np.arange(len(batch)), mean=data.mean, std=data.std, transform=maps)
            parts.append(softmax(np.asarray(model(x))))
        return np.concatenate(parts)

    model.eval()
    seen = {view: probabilities(view) for view in {view for views in SETS.values() for view in views}}
    means = [np.mean([seen[view] for view in views], axis=0) for views in SETS.values()]
    return len(labels), [int((mean.argmax(axis=1) == labels).sum()) for mean in means]


def main() -> None:
    parser = argparse.ArgumentParser(description="compares sets of views for test-time augmentation")
    parser.add_argument("folder", type=Path, help="keeps the networks of the folds")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        folds = list(pool.map(partial(correct_of, folder=chosen.folder), range(FOLDS)))
    accuracies = {name: [100 * correct[i] / images for images, correct in folds] for i, name in enumerate(SETS)}
    alone = accuracies["the image alone"]
    rows = []
    for name, found in accuracies.items():
        gains = [one - base for one, base in zip(found, alone, strict=True)]
        rows.append([name, str(len(SETS[name])), f"{np.mean(found):.3f}", interval(gains) if found is not alone else ""])
    print_table(["views", "number", "%", "gain"], rows)
    sets = {name: {"views": len(SETS[name]), "accuracies": found} for name, found in accuracies.items()}
    save("views", {"folds": FOLDS, "sets": sets})


if __name__ == "__main__":
    main()
