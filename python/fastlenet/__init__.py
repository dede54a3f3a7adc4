"""fastlenet: LeNet on hand-written kernels.

Start at `LeNet` and `fit`; `fastlenet.ops` has every op, `fastlenet.reference` the same in plain NumPy.
"""

from fastlenet import augment, nn, ops, optim, reference
from fastlenet.augment import Augmentation
from fastlenet.chain import Chain
from fastlenet.config import config, get_num_threads, set_num_threads, show_config
from fastlenet.lenet import LeNet
from fastlenet.recipe import RECIPES, Recipe
from fastlenet.trainer import fit

__all__ = [
    "RECIPES",
    "Augmentation",
    "Chain",
    "LeNet",
    "Recipe",
    "augment",
    "config",
    "fit",
    "get_num_threads",
    "nn",
    "ops",
    "optim",
    "reference",
    "set_num_threads",
    "show_config",
]
