"""What the commands share that judge a model: the model, the data, and the part of it that they are given."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastlenet.cli.data import fields_given, load_data
from fastlenet.cli.flags import add_flags
from fastlenet.cli.models import Model, load_model
from fastlenet.cli.parser import Parser, file_name
from fastlenet.cli.settings import Options, Settings, build, flags_for
from fastlenet.config import set_num_threads
from fastlenet.data import DataError, Dataset
from fastlenet.data.dataset import PARTS, Part
from fastlenet.devices import DEVICES
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fastlenet.inference.raw import reported_part
from fastlenet.streams import one_line
from fastlenet.training.evaluation import has_images

__all__ = ["Judging", "add_judging_flags", "judging", "of_data"]


def add_judging_flags(parser: Parser, options: Sequence[str]) -> None:
    """Add the flags for the model, the data and how they are judged. options: the names of others, of Options."""
    what = "a file that fastlenet train --save-model or model.save wrote (default: the package's network)"
    parser.add_argument("model", nargs="?", type=file_name, metavar="MODEL", help=what)
    add_flags(parser, Settings, ("data", "data_dir", "image_size"))
    part = "the part of the data to evaluate on (default: test; if it has no images, validation, or else train)"
    parser.add_argument("--part", choices=PARTS, help=part)
    parser.add_argument("--tta", action="store_true", help="average over each image and its four shifts by one pixel")
    add_flags(parser, Settings, ("test_batch_size", "device"))
    add_flags(parser, Options, options)


@dataclass(frozen=True)
class Judging:
    """What a command line names: the model, the data that it is judged by, and how."""

    path: str | None
    model: Model
    data: Dataset
    part: Part
    tta: bool
    settings: Settings
    options: Options

    @property
    def name(self) -> str:
        """What the model is called in messages."""
        return _name(self.path)


def judging(given: argparse.Namespace, prog: str) -> Judging:
    """Load what the command line names. Raises UsageError, CheckpointError, DataError or DeviceError, in one line."""
    with flags_for():
        settings, options = build(Settings, fields_given(Settings, given)), build(Options, fields_given(Options, given))
    if options.threads is not None:
        set_num_threads(options.threads)
    model = load_model(given.model, prog, ops=DEVICES[settings.device].load())
    data = load_data(settings)
    _expect_fit(given.model, model, data)
    with of_data(data):
        part: Part = reported_part(data, given.part) if given.part or has_images(data) else "train"
    return Judging(given.model, model, data, part, given.tta, settings, options)


@contextmanager
def of_data(data: Dataset) -> Iterator[None]:
    """A context for the block that judges. Raises DataError, with the name of the data, for data that do not suit the model."""
    try:
        yield
    except FieldError as error:
        raise DataError(f"{one_line(data.name)}: {error.worded(error.field)}") from None
    except CheckpointError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from None


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
