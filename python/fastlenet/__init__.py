"""fastlenet: LeNet on hand-written kernels.

Start with `LeNet` and `fit` to train, and with `load` or `LeNet.pretrained()` and `predict_image` to predict. `fastlenet.ops`
has every op, and `fastlenet.reference` has the same ops in plain NumPy.
"""

import importlib
import sys
from typing import TYPE_CHECKING

# `python -m fastlenet...` imports this module first. Meanwhile argv[0] is "-m", and only orig_argv has the module's name.
if sys.argv[:1] == ["-m"] and f"{sys.orig_argv[-len(sys.argv)].removeprefix('-m')}.".startswith("fastlenet."):
    from fastlenet.cli.command import fail_in_one_line

    fail_in_one_line("fastlenet")

from fastlenet import nn, ops, optim
from fastlenet.config import config, get_num_threads, set_num_threads, show_config
from fastlenet.models.chain import Chain
from fastlenet.models.lenet import LeNet

if TYPE_CHECKING:
    from fastlenet import augment, cuda, reference
    from fastlenet.augment import Augmentation
    from fastlenet.exports import export
    from fastlenet.images import Page, Prediction, predict_image, predict_page
    from fastlenet.models.ensemble import Ensemble
    from fastlenet.models.loading import load
    from fastlenet.reports import Report, report
    from fastlenet.training.callbacks import Callback, EarlyStopping
    from fastlenet.training.fit import fit
    from fastlenet.training.recipe import RECIPES, Recipe

    __version__: str

__all__ = [
    "RECIPES",
    "Augmentation",
    "Callback",
    "Chain",
    "EarlyStopping",
    "Ensemble",
    "LeNet",
    "Page",
    "Prediction",
    "Recipe",
    "Report",
    "augment",
    "config",
    "cuda",
    "distributed",
    "export",
    "fit",
    "get_num_threads",
    "load",
    "nn",
    "ops",
    "optim",
    "predict_image",
    "predict_page",
    "reference",
    "report",
    "set_num_threads",
    "show_config",
]


# Imported at their first use, since together they take a fifth of NumPy's import time.
_MODULES_LATER = ("augment", "cuda", "distributed", "reference")
_LATER = {
    "Augmentation": "fastlenet.augment",
    "Callback": "fastlenet.training.callbacks",
    "EarlyStopping": "fastlenet.training.callbacks",
    "Ensemble": "fastlenet.models.ensemble",
    "export": "fastlenet.exports",
    "fit": "fastlenet.training.fit",
    "load": "fastlenet.models.loading",
    "Page": "fastlenet.images",
    "predict_image": "fastlenet.images",
    "predict_page": "fastlenet.images",
    "Prediction": "fastlenet.images",
    "Report": "fastlenet.reports",
    "report": "fastlenet.reports",
    "Recipe": "fastlenet.training.recipe",
    "RECIPES": "fastlenet.training.recipe",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return config()["version"]
    if name in _MODULES_LATER:
        return importlib.import_module(f"fastlenet.{name}")  # this makes it an attribute here
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = found  # from now on found without this function
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
