"""What a training command was told, as data: a run's settings, which a checkpoint keeps, and the options of the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import TypeVar

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import flag_of
from fastlenet.config import THREADS
from fastlenet.data import NAMES, named
from fastlenet.devices import DEVICES
from fastlenet.fields import INT64_MAX, FieldError, FieldTypeError, FieldValueError, Values, a_field, expect_fields
from fastlenet.models import NETWORKS
from fastlenet.preprocessing import WIDTH, Preprocessing
from fastlenet.training.checkpoint import MAX_MEMBERS
from fastlenet.training.ensemble import expect_seeds
from fastlenet.training.evaluation import BATCH_SIZE
from fastlenet.training.recipe import RECIPES, Recipe, named_recipe

__all__ = ["Arguments", "Options", "Settings", "Value", "a_path", "build", "flags_for", "take_data_dir"]

Value = int | float | bool | str  # of a flag that is given once
Made = TypeVar("Made")

_COUNT = Values(int, "a non-negative integer", 0, INT64_MAX)
_POSITIVE = Values(int, "a positive integer", 1, INT64_MAX)
_SWITCH = Values(bool)


@contextmanager
def flags_for(**names: str) -> Iterator[None]:
    """Words what the block refuses of a field with the flag that gave it. names: of fields that the library calls otherwise."""
    try:
        yield
    except FieldError as error:
        raise UsageError(error.worded(flag_of(names.get(error.field, error.field)))) from None


def build(kind: Callable[..., Made], values: Mapping[str, object]) -> Made:
    """A dataclass of these fields, whose values it checks itself."""
    return kind(**values)


def a_path(metavar: str, help: str, otherwise: str | None = None) -> str | None:
    """A field with the name of a file or a folder, or without. otherwise: the name where the flag is given alone."""
    metadata = {"values": Values(str), "help": help, "metavar": metavar, "otherwise": otherwise}
    name: str | None = field(default=None, metadata=metadata)
    return name


def _paths(name: str, value: object) -> tuple[str, ...]:
    """The names of files, from a flag or from the JSON of a checkpoint."""
    if not isinstance(value, (tuple, list)):
        raise FieldTypeError(name, value, "names of files")
    return tuple(Values(str).convert(name, path) for path in value)


def take_data_dir(given: dict[str, Value]) -> None:
    """--data-dir alone is --data: changes what was given accordingly."""
    if "data_dir" in given and "data" not in given:
        given["data"] = given.pop("data_dir")


def _look(looks: str, word: str) -> Preprocessing:
    width, plus, rest = word.strip().partition("+")
    expected = f"widths of 0, or pixels in {WIDTH.least}..{WIDTH.most}, each with +deskew or without, such as 0,12,20+deskew"
    if not (width.isascii() and width.isdecimal() and len(width) <= 2) or (plus and rest != "deskew"):
        raise FieldValueError("looks", looks, expected)
    try:
        return Preprocessing(int(width), bool(plus))
    except FieldValueError:
        raise FieldValueError("looks", looks, expected) from None


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run beside its recipe's fields, or where its data lie. A checkpoint keeps them."""

    recipe: str = a_field("default", Values(str, choices=tuple(RECIPES)), "named recipe; --list-recipes shows what each sets")
    network: str = a_field("lenet", Values(str, choices=tuple(NETWORKS)), "the network to train")
    ensemble: int = a_field(
        1,
        Values(int, f"an integer in 1..{MAX_MEMBERS}", 1, MAX_MEMBERS),
        "train N networks with seeds S, S+1, ..., and average their probabilities",
    )
    looks: str = a_field(
        "",
        Values(str),
        "preprocess the images of an ensemble's networks differently, in turn: 0,12,20+deskew is as they are, of width 12, and "
        "of width 20 and upright",
    )
    weigh: bool = a_field(False, _SWITCH, "weight the networks of an ensemble by what is best on the validation images")
    data: str = field(
        default="mnist",
        metadata={
            "values": Values(str),
            "flags": ("--dataset",),
            "metavar": "NAME|PATH",
            "help": f"{', '.join(NAMES)}; or a path: a folder of IDX files, of CIFAR's binary files, or of folders of "
            "pictures by class; a .npz or .csv file",
        },
    )
    data_dir: str | None = a_path("DIR", "folder with the files of a named data set; without --data, the same as --data DIR")
    image_size: int | None = field(
        default=None,
        metadata={
            "values": Values(int, "pixels in 1..4096", 1, 4096),
            "help": "resize the pictures of a folder to N x N pixels",
        },
    )
    validation: int = a_field(0, _COUNT, "hold out the last N training images and evaluate on them instead of the test set")
    test_batch_size: int = a_field(BATCH_SIZE, _POSITIVE, "images per batch in evaluation")
    dry_run: bool = a_field(False, _SWITCH, "train one batch per epoch, to test that everything works")
    sample_weight: str | None = a_path(
        "FILE", "weights of the training images in the loss: a .npy file, or text with one number a line"
    )
    teacher: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "FILE",
            "many": True,
            "help": "learn from the networks in FILE too, by --temperature and --mix; give it again for another file",
        },
    )
    teacher_cache: str | None = a_path(
        "DIR", "keep the teacher's predictions in DIR, for runs with the same augmentation and --augmentation-seed"
    )
    load_model: str | None = a_path(
        "FILE", "start from the parameters in FILE (safetensors); with --epochs 0, only evaluate them"
    )
    device: str = a_field(
        "cpu", Values(str, choices=tuple(DEVICES)), "device to compute on; cuda needs a build with FASTLENET_CUDA=ON"
    )

    def __post_init__(self) -> None:
        expect_fields(self)
        object.__setattr__(self, "teacher", _paths("teacher", self.teacher))
        looks = self.preprocessings
        if looks and self.ensemble < 2:
            raise FieldValueError("looks", self.looks, "an ensemble of several networks", cure="give --ensemble N too")
        if self.weigh and self.ensemble < 2:
            raise FieldValueError("weigh", self.weigh, "an ensemble of several networks", cure="give --ensemble N too")

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """The looks. Raises FieldValueError for words that are none."""
        return tuple(_look(self.looks, word) for word in self.looks.split(",")) if self.looks else ()

    def as_json(self, seed: int) -> dict[str, Value | list[str] | None]:
        """As a checkpoint holds them: with whole paths, which mean the same in another folder; seed: of the first network."""
        kept: dict[str, Value | list[str] | None] = asdict(self)
        if not named(self.data):
            kept["data"] = os.path.abspath(self.data)
        elif self.data_dir is not None:
            kept["data_dir"] = os.path.abspath(self.data_dir)
        for name in ("sample_weight", "load_model", "teacher_cache"):
            if kept[name] is not None:
                kept[name] = os.path.abspath(str(kept[name]))
        kept["teacher"] = [*map(os.path.abspath, self.teacher)]
        return kept | {"seed": seed}


@dataclass(frozen=True)
class Options:
    """What a process does beside training: which files it writes, what it shows. A checkpoint keeps none of it."""

    save_model: str | None = a_path("FILE", "write the final parameters to FILE (safetensors)")
    checkpoint: str | None = a_path("FILE", "save the training state to FILE after each epoch and every 10 s")
    resume: str | None = a_path(
        "FILE",
        "continue from a checkpoint with its settings; you may change --epochs and --data; saves to the same FILE unless "
        "--checkpoint names another",
    )
    log_json: str | None = a_path("FILE", "write one JSON object per epoch to FILE")
    plot: str | None = a_path("FILE", "plot loss and accuracy to FILE after each epoch (.png, .svg, .pdf; extra plot)")
    threads: int | None = field(
        default=None, metadata={"values": THREADS, "help": "number of threads (default: the CPUs that this process may use)"}
    )
    mpi: str = a_field(
        "auto",
        Values(str, choices=("auto", "on", "off")),
        "share the run with the other processes that mpiexec or srun started: auto does so if their environment variables are "
        "set; needs --shards",
    )
    log_interval: int = a_field(0, _COUNT, "print the loss every N batches")
    json: bool = a_field(False, _SWITCH, "print the result as one JSON object; print all else on standard error")
    profile: bool = a_field(False, _SWITCH, "print a table of the time of each op in a training step")
    find_lr: bool = a_field(
        False,
        _SWITCH,
        "do not train; raise the learning rate from 1e-4 until the loss diverges, and suggest one; --plot draws the curve",
    )
    times: bool = a_field(False, _SWITCH, "print the seconds spent on data, training and evaluation")
    quiet: bool = a_field(False, _SWITCH, "print nothing but the final accuracy")
    allow_level_change: bool = a_field(
        False,
        _SWITCH,
        "resume a checkpoint of another instruction-set level or another --device; the last bits will differ",
    )

    def __post_init__(self) -> None:
        expect_fields(self)

    @property
    def state_file(self) -> str | None:
        """Where the training state goes: to the checkpoint, or back to where it came from."""
        return self.checkpoint if self.checkpoint is not None else self.resume


@dataclass(frozen=True)
class Arguments:
    """A command line: the options, and what was given of the settings and of the recipe's fields, by name."""

    options: Options
    changes: Mapping[str, Value]

    @classmethod
    def of(cls, given: Mapping[str, Value]) -> Arguments:
        """Raises UsageError, which names the flag, for an option out of its range."""
        names = {entry.name for entry in fields(Options)}
        with flags_for():
            options = build(Options, {name: value for name, value in given.items() if name in names})
        return cls(options, {name: value for name, value in given.items() if name not in names})

    def new_run(self) -> tuple[Settings, Recipe]:
        """The settings and the recipe of a run from its first step. Raises UsageError for a value out of its range."""
        own, of_recipe = self.divided()
        take_data_dir(own)
        with flags_for():
            settings = build(Settings, own)
            recipe = build(Recipe, asdict(named_recipe(settings.recipe)) | of_recipe)
            expect_seeds(recipe, settings.ensemble)
        return settings, recipe

    def divided(self) -> tuple[dict[str, Value], dict[str, Value]]:
        """The changes of settings, and those of the recipe's fields."""
        names = {entry.name for entry in fields(Settings)}
        own = {name: value for name, value in self.changes.items() if name in names}
        return own, {name: value for name, value in self.changes.items() if name not in names}
