"""fastlenet: LeNet on hand-written kernels.

Start at `LeNet` and `fit`; `fastlenet.ops` has every op, `fastlenet.reference` the same in plain NumPy.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

try:
    from fastlenet import _core  # noqa: F401
except ImportError as error:  # a FASTLENET_ISA that there is not, or a CPU without any of the levels
    # While `python -m fastlenet.train` imports this, argv[0] is "-m": such a command ends in one line, as for any wrong input.
    if sys.argv[0] == "-m" and any(part.removeprefix("-m").startswith("fastlenet.") for part in sys.orig_argv):
        print(f"fastlenet: error: {error}", file=sys.stderr)
        sys.exit(2)
    raise

from fastlenet import augment, nn, ops, optim, reference
from fastlenet.augment import Augmentation
from fastlenet.chain import Chain
from fastlenet.config import config, get_num_threads, set_num_threads, show_config
from fastlenet.lenet import LeNet
from fastlenet.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from fastlenet import cuda
    from fastlenet.trainer import fit

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
    from fastlenet.trainer import fit

    globals()["fit"] = fit  # found without this function from now on
    return fit


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
