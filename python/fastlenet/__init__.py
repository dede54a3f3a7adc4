"""fastlenet: LeNet on hand-written kernels.

Start at `LeNet` and `fit`; `fastlenet.ops` has every op, `fastlenet.reference` the same in plain NumPy.
"""

from typing import TYPE_CHECKING, Any

from fastlenet import augment, nn, ops, optim, reference
from fastlenet.augment import Augmentation
from fastlenet.chain import Chain
from fastlenet.config import config, get_num_threads, set_num_threads, show_config
from fastlenet.lenet import LeNet
from fastlenet.recipe import RECIPES, Recipe

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """`fit`, when it is first asked for: data files and checkpoints come with it, a tenth of what NumPy takes to import."""
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastlenet.trainer import fit

    globals()["fit"] = fit  # found without this function from now on
    return fit


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
