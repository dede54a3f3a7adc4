"""Makes the weights of LeNet.pretrained(): trains the recipe `best`, seed 0, and rounds them to bfloat16.

    python tools/pretrain.py            two minutes on two cores

The same seed gives the same file at the same instruction-set level. Prints the test accuracy of the rounded weights, which
docs/predict.md states; seed and recipe are not chosen by it.
"""

from __future__ import annotations

from pathlib import Path

from fastlenet import RECIPES, LeNet, fit
from fastlenet.data import load_mnist
from fastlenet.models.lenet import PRETRAINED
from fastlenet.training.evaluation import evaluate
from weights import save_bfloat16

RECIPE = "best"


def main() -> None:
    data, recipe = load_mnist(), RECIPES[RECIPE]
    model = LeNet.of(recipe)
    fit(model, data, recipe)
    Path(PRETRAINED).parent.mkdir(exist_ok=True)
    save_bfloat16(Path(PRETRAINED), model.state_dict(), model.metadata())
    accuracy, _ = evaluate(LeNet.pretrained(), data)
    print(f"test accuracy of the rounded weights: {accuracy:.2%}")


if __name__ == "__main__":
    main()
