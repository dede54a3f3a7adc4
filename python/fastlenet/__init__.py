"""fastlenet: LeNet on hand-written kernels.

Start at `LeNet` and `fit`; `fastlenet.ops` has every op, `fastlenet.reference` the same in plain NumPy.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

# `python -m fastlenet` imports this first, argv[0] is "-m" meanwhile, and the module's name is what argv leaves out.
if sys.argv[:1] == ["-m"] and f"{sys.orig_argv[-len(sys.argv)].removeprefix('-m')}.".startswith("fastlenet."):
    from fastlenet.cli.command import fail_in_one_line

    fail_in_one_line("fastlenet")

from fastlenet import augment, nn, ops, optim, reference
from fastlenet.augment import Augmentation
from fastlenet.config import config, get_num_threads, set_num_threads, show_config
from fastlenet.models.chain import Chain
from fastlenet.models.lenet import LeNet
from fastlenet.training.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from fastlenet import cuda
    from fastlenet.training.fit import fit

__all__ = [
    "RECIPES",
    "Augmentation",
    "Chain",
    "LeNet",
    "Recipe",
    "augment",
    "config",
    "cuda",
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
    """`fit` and `cuda`, when first asked for: data files and checkpoints come with them, a tenth of NumPy's time to import."""
    if name == "cuda":
        return importlib.import_module("fastlenet.cuda")  # which makes it an attribute here
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastlenet.training.fit import fit

    globals()["fit"] = fit  # found without this function from now on
    return fit


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
