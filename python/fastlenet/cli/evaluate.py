"""fastlenet evaluate: how good a model is on images whose labels are known."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fastlenet._core import DeviceError
from fastlenet.cli.command import run_command
from fastlenet.cli.judging import Judging, add_judging_flags, judging, of_data
from fastlenet.cli.models import Model
from fastlenet.cli.parser import Parser
from fastlenet.config import config
from fastlenet.data import DataError
from fastlenet.data.dataset import PART_WORDS
from fastlenet.files import CheckpointError
from fastlenet.inference.scores import Evaluation
from fastlenet.models.ensemble import Ensemble
from fastlenet.quantization import QuantizedModel
from fastlenet.streams import one_line

__all__ = ["main", "make_parser"]


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Evaluate a model: accuracy with its 95 % interval, accuracy and precision of each class, and the confusion matrix.",
        [
            (f"{prog} m.safetensors", "evaluate on the test images of MNIST"),
            (f"{prog} m.safetensors --data photos", "evaluate on the pictures in photos/CLASS/"),
            (f"{prog} m.safetensors --tta", "average over each image and its four shifts"),
            (f"{prog} m.safetensors --json", "print one JSON object, for other programs"),
        ],
        "fastlenet report writes a page with the same numbers and the worst errors, filters and activations. The images are "
        "normalised by the mean and the standard deviation in the model's file. Exit codes: 0 success, 2 wrong usage or "
        "input, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    add_judging_flags(parser, ("threads", "json"))
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet evaluate") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    expected = (CheckpointError, DataError, DeviceError)
    return run_command(prog, lambda: _evaluate(judging(make_parser(prog).parse(arguments), prog)), *expected)


def _evaluate(given: Judging) -> int:
    with of_data(given.data):
        result = given.model.evaluate(given.data, part=given.part, batch_size=given.settings.test_batch_size, tta=given.tta)
    print((_as_json if given.options.json else _as_text)(given, result), flush=True)
    return 0


def _kind(model: Model) -> str:
    first = model[0] if isinstance(model, Ensemble) else model
    return f"{first.network} in int8" if isinstance(first, QuantizedModel) else type(first).__name__


def _as_text(given: Judging, result: Evaluation) -> str:
    model = given.model
    networks = f"{len(model)} networks, each {_kind(model)}" if isinstance(model, Ensemble) else _kind(model)
    shape = "x".join(map(str, model.facts.input_shape or ()))
    return "\n".join(
        [
            f"{one_line(given.name)}: {networks} for images of {shape}",
            f"{one_line(given.data.name)}: {result.count:,} {PART_WORDS[given.part]} images"
            f"{', test-time augmentation' * given.tta}",
            "",
            str(result),
        ]
    )


def _as_json(given: Judging, result: Evaluation) -> str:
    facts = {
        "model": given.name,
        "network": _kind(given.model),
        "networks": len(given.model) if isinstance(given.model, Ensemble) else 1,
        "data": given.data.name,
        "part": given.part,
        "tta": given.tta,
    }
    return json.dumps(facts | result.as_dict() | {"version": config()["version"]}, allow_nan=False)
