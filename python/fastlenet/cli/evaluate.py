"""fastlenet evaluate: how good a model is on images whose labels are known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from fastlenet._core import DeviceError
from fastlenet.cli.command import run_command
from fastlenet.cli.data import fields_given, load_data
from fastlenet.cli.flags import add_flags
from fastlenet.cli.models import Model, load_model
from fastlenet.cli.parser import Parser, file_name
from fastlenet.cli.settings import Options, Settings, build, flags_for
from fastlenet.config import config, set_num_threads
from fastlenet.data import DataError, Dataset
from fastlenet.data.dataset import PART_WORDS, PARTS, Part
from fastlenet.devices import DEVICES
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fastlenet.inference.raw import reported_part
from fastlenet.inference.scores import Evaluation
from fastlenet.models.ensemble import Ensemble
from fastlenet.nn import Sequential
from fastlenet.streams import one_line
from fastlenet.training.evaluation import has_images

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
        "The images are normalised by the mean and the standard deviation in the model's file. Exit codes: 0 success, 2 wrong "
        "usage or input, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    what = "a file that fastlenet train --save-model or model.save wrote (default: the package's network)"
    parser.add_argument("model", nargs="?", type=file_name, metavar="MODEL", help=what)
    add_flags(parser, Settings, ("data", "data_dir", "image_size"))
    part = "the part of the data to evaluate on (default: test; if it has no images, validation, or else train)"
    parser.add_argument("--part", choices=PARTS, help=part)
    parser.add_argument("--tta", action="store_true", help="average over each image and its four shifts by one pixel")
    add_flags(parser, Settings, ("test_batch_size", "device"))
    add_flags(parser, Options, ("threads", "json"))
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet evaluate") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    expected = (CheckpointError, DataError, DeviceError)
    return run_command(prog, lambda: _evaluate(make_parser(prog).parse(arguments), prog), *expected)


def _evaluate(given: argparse.Namespace, prog: str) -> int:
    with flags_for():
        settings, options = build(Settings, fields_given(Settings, given)), build(Options, fields_given(Options, given))
    if options.threads is not None:
        set_num_threads(options.threads)
    model = load_model(given.model, prog, ops=DEVICES[settings.device].load())
    data = load_data(settings)
    _expect_fit(given.model, model, data)
    try:
        part: Part = reported_part(data, given.part) if given.part or has_images(data) else "train"
        result = model.evaluate(data, part=part, batch_size=settings.test_batch_size, tta=given.tta)
    except FieldError as error:
        raise DataError(f"{one_line(data.name)}: {error.worded(error.field)}") from None
    except ValueError as error:
        raise DataError(str(error)) from None
    report = _as_json if options.json else _as_text
    print(report(_name(given.model), model, data, part, given.tta, result), flush=True)
    return 0


def _name(path: str | None) -> str:
    return "LeNet.pretrained()" if path is None else path


def _expect_fit(path: str | None, model: Model, data: Dataset) -> None:
    """Raise CheckpointError or DataError unless the model knows its images, and they are of the data's size."""
    facts = model.facts
    if facts.input_shape is None or facts.mean is None:
        what = "the shape of its images" if facts.input_shape is None else "how its images are normalised"
        cure = "in Python, call model.set_facts(...), then model.save"
        raise CheckpointError(f"{_name(path)}: does not say {what}; {cure}")
    if facts.input_shape != data.input_shape:
        size, other = ("x".join(map(str, shape)) for shape in (facts.input_shape, data.input_shape))
        raise DataError(f"{one_line(data.name)}: images of {other}, where {_name(path)} takes images of {size}")


def _first(model: Model) -> Sequential:
    return model[0] if isinstance(model, Ensemble) else model


def _as_text(name: str, model: Model, data: Dataset, part: Part, tta: bool, result: Evaluation) -> str:
    networks = f"{len(model)} networks, each {type(model[0]).__name__}" if isinstance(model, Ensemble) else type(model).__name__
    shape = "x".join(map(str, model.facts.input_shape or ()))
    return "\n".join(
        [
            f"{one_line(name)}: {networks} for images of {shape}",
            f"{one_line(data.name)}: {result.count:,} {PART_WORDS[part]} images{', test-time augmentation' * tta}",
            "",
            str(result),
        ]
    )


def _as_json(name: str, model: Model, data: Dataset, part: Part, tta: bool, result: Evaluation) -> str:
    facts = {
        "model": name,
        "network": type(_first(model)).__name__,
        "networks": len(model) if isinstance(model, Ensemble) else 1,
        "data": data.name,
        "part": part,
        "tta": tta,
    }
    return json.dumps(facts | result.as_dict() | {"version": config()["version"]}, allow_nan=False)
