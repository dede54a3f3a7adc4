"""Every function of fastlenet that reads a file, as a target of the fuzzer: what it may raise, and how much memory it may take.

A reader not in this table is not fuzzed, and tests/fuzzing/test_readers.py looks for such readers.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastlenet import nn
from fastlenet.cli.sample_weight import read_weights
from fastlenet.data import DataError, Dataset
from fastlenet.data.cifar import load_cifar
from fastlenet.data.csv import load_csv
from fastlenet.data.folder import load_folder
from fastlenet.data.idx import read_idx
from fastlenet.data.npz import load_npz
from fastlenet.distributed import results
from fastlenet.distributed.searches.space import Space
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fastlenet.images.reading import ImageError, read_picture
from fastlenet.models.loading import read_model
from fastlenet.quantization import QuantizedModel
from fastlenet.speedrun.checking import check, read_result
from fastlenet.training.checkpoint import load_checkpoint
from fastlenet.training.logs import read_log
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import Trainer
from fuzzing import mutators
from fuzzing.mutators import Mutator

__all__ = ["A_MINUTE", "CORPUS", "READERS", "FindingError", "Reader", "judge", "small_network", "small_run"]

CORPUS = Path(__file__).parent / "corpus"
_MIB = 1 << 20


class FindingError(Exception):
    """A reader did with some bytes what it must not do."""


class Reader(NamedTuple):
    """A target. file: the name under which the bytes are laid, for the suffixes decide. read: reads that file. refuses: the
    errors that it documents. times, least: the memory that it may take, as a multiple of the file and bytes beside that.
    mutate: a change that keeps checksums and lengths right. longest: bytes of an
    input. part: its executions of a million.
    """

    file: str
    read: Callable[[Path], object]
    refuses: tuple[type[Exception], ...]
    times: int
    least: int = 4 * _MIB  # what Python's allocator takes at a time, and a decoder's tables
    mutate: Mutator | None = None
    longest: int = 1 << 15
    part: int = 1000


# --- reading ---


def _idx(path: Path) -> object:
    try:
        return read_idx(path, 3)
    except DataError:
        return read_idx(path, 1)


def _model(path: Path) -> object:
    """A model that is accepted must also compute."""
    loaded = read_model(path)
    if isinstance(loaded.model, QuantizedModel):
        return _computes(loaded.model)
    model = loaded.model if isinstance(loaded.model, nn.Sequential) else loaded.model[0]
    shape = model.input_shape
    if not np.isfinite(model.parameter_buffer).all():
        raise FindingError("a weight is not finite")
    if shape is not None and np.prod(shape) < 1 << 16 and model.parameter_buffer.size < 1 << 16:
        with np.errstate(all="ignore"):
            scores = model(np.zeros((1, *shape), np.float32))
        if len(scores) != 1:
            raise FindingError(f"scores of shape {scores.shape}")
    return loaded


def _computes(model: QuantizedModel) -> object:
    """The kernels and the layers in NumPy must give the same bits."""
    shape = model.input_shape
    assert shape is not None
    sizes = [np.prod(shape, dtype=float), *(np.prod(layer.output_shape, dtype=float) for layer in model)]
    if max(sizes) < 1 << 14 and model.nbytes < 1 << 16:
        images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
        with np.errstate(all="ignore"):
            scores, expected = model.logits(images), [*model.activations(images).values()][-1]
        if not np.array_equal(scores, expected, equal_nan=True):
            raise FindingError(f"scores {scores}, where the layers in NumPy give {expected}")
    return model


def _network_of(path: Path) -> object:
    return read_model(path, network=small_network())


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 10))


def small_run() -> Trainer:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (90, 2, 3), np.uint8), draw.integers(0, 10, 90, np.uint8)
    data = Dataset("random", images[:80], labels[:80], images[80:], labels[80:], 10, 0.5, 0.25)
    recipe = Recipe(epochs=3, batch_size=16, optimizer="adamw", lr=1e-3, shift=0, dropout=0, ema=0.9, ema_start=0.2)
    return Trainer(small_network(), data, recipe, evaluate_every_epoch=False)


@cache
def _kept_run() -> Trainer:
    return small_run()


def _state(path: Path) -> object:
    """A state that is refused must leave the run as it was."""
    run = _kept_run()
    before = run.state.model.parameter_buffer.tobytes(), run.state.epoch, run.state.position, run.state.steps
    try:
        run.restore(path, allow_level_change=True)
    except CheckpointError:
        if before != (run.state.model.parameter_buffer.tobytes(), run.state.epoch, run.state.position, run.state.steps):
            raise FindingError("a state that was refused changed the run") from None
        raise
    if not np.isfinite(run.state.model.parameter_buffer).all():
        raise FindingError("a weight is not finite")
    return load_checkpoint(path)


def _keras_answer(path: Path) -> object:
    """The bytes as the answer of the program that reads HDF5, so that what comes after it is fuzzed at full speed."""
    answer = path.read_bytes()
    original = subprocess.run

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 0, answer, b"")

    subprocess.run = run  # type: ignore[assignment]
    try:
        return _model(path)
    finally:
        subprocess.run = original


def _picture(path: Path) -> object:
    pixels, factor = read_picture(path)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1.0001 and factor >= 1):
        raise FindingError(f"pixels of {pixels.min()}..{pixels.max()}, factor {factor}")
    return pixels


def _folder(path: Path) -> object:
    """A folder of two classes, with the same picture in each."""
    other = path.parent.parent / "b" / path.name
    other.parent.mkdir(exist_ok=True)
    if not other.exists():
        os.link(path, other)
    return load_folder(path.parent.parent)


def _cifar(path: Path) -> object:
    """The bytes as CIFAR-100's test part, beside a right one for training."""
    train = path.parent / "train.bin"
    if not train.exists():
        train.write_bytes(bytes(3074))
    return load_cifar(path.parent)


def _names(path: Path) -> object:
    for name in ("train.bin", "test.bin"):
        if not (path.parent / name).exists():
            (path.parent / name).write_bytes(bytes(3074))
    return load_cifar(path.parent)


def _results(path: Path) -> object:
    return results.read(path)


def _results_resumed(path: Path) -> object:
    """What is kept must be read again, and a run can be added behind it."""
    with results.opened(path, {"data": "x"}) as kept:
        count = len(kept.outcomes)
    if len(results.read(path).outcomes) != count:
        raise FindingError("the file that was opened has other runs than were read")
    return kept


def _space(path: Path) -> object:
    space = Space.read(path)
    draw = np.random.default_rng(0)
    for field in space.ranges.values():
        field.sample(draw)
    next(iter(space.samples()), None)
    return space


def _speedrun(path: Path) -> object:
    checked = check(read_result(path))
    if not checked.faults and not checked.lines:
        raise FindingError("neither faults nor figures")
    if any("\n" in line for line in (*checked.faults, *checked.lines)):
        raise FindingError("a line of several lines")
    return checked


def _weights(path: Path) -> object:
    return read_weights(str(path), 0)


# --- the table ---

_FOREIGN = (CheckpointError,)
_ARCHIVE = 2 * 16 * _MIB + 4 * _MIB  # a small archive's members may come to 16 MiB, twice in memory

READERS: Mapping[str, Reader] = {
    "idx": Reader("images", _idx, (DataError,), 2, part=307_500),
    "idx_gzip": Reader("images.gz", _idx, (DataError,), 1100, mutate=mutators.gzip_file, part=60_000),
    "csv": Reader("table.csv", load_csv, (DataError,), 5, part=30_000),
    "npz_data": Reader("data.npz", load_npz, (DataError,), 3 * 1100, mutate=mutators.zip_file, part=10_000),
    "cifar": Reader("test.bin", _cifar, (DataError,), 4, part=20_000),
    "cifar_names": Reader("fine_label_names.txt", _names, (DataError,), 4, part=10_000),
    "folder": Reader("a/picture.png", _folder, (DataError,), 400, 1000 * _MIB, mutators.png_file, part=2_000),
    "picture": Reader("picture.png", _picture, (ImageError,), 200, 450 * _MIB, mutators.png_file, part=500),
    "model": Reader("model.safetensors", _model, _FOREIGN, 70, mutate=mutators.safetensors_file, part=60_000),
    "quantized": Reader("int8.safetensors", _model, _FOREIGN, 70, mutate=mutators.safetensors_file, part=40_000),
    "state": Reader("state.safetensors", _state, _FOREIGN, 70, mutate=mutators.state_file, part=30_000),
    "pytorch": Reader("model.pt", _model, _FOREIGN, 3, mutate=mutators.zip_file, part=50_000),
    "npz": Reader("model.npz", _network_of, _FOREIGN, 40, _ARCHIVE, mutators.zip_file, part=10_000),
    "caffe": Reader("model.caffemodel", _model, _FOREIGN, 3, part=30_000),
    "onnx": Reader("model.onnx", _model, _FOREIGN, 3, part=50_000),
    "keras": Reader("model.keras", _model, _FOREIGN, 70, _ARCHIVE, mutators.zip_file, part=60),
    "keras_answer": Reader("model.h5", _keras_answer, _FOREIGN, 70, mutate=mutators.json_head, part=30_000),
    "results": Reader("runs.jsonl", _results, _FOREIGN, 5, mutate=mutators.json_lines, part=40_000),
    "results_resumed": Reader("runs.jsonl", _results_resumed, _FOREIGN, 10, mutate=mutators.json_lines, part=20_000),
    "log": Reader("log.jsonl", read_log, _FOREIGN, 20, mutate=mutators.json_lines, part=60_000),
    "space_toml": Reader("space.toml", _space, (CheckpointError, FieldError, TypeError), 70, part=70_000),
    "space_json": Reader(
        "space.json", _space, (CheckpointError, FieldError, TypeError), 70, mutate=mutators.json_lines, part=60_000
    ),
    "weights_npy": Reader("weights.npy", _weights, (DataError,), 4, part=5_000),
    "weights_text": Reader("weights.txt", _weights, (DataError,), 70, part=2_940),
    "speedrun": Reader("result.json", _speedrun, (CheckpointError,), 70, mutate=mutators.json_lines, part=2_000),
}

# The files that a core of an AMD EPYC (Zen 4) reads in a minute.
A_MINUTE: Mapping[str, int] = {"idx": 440_000, "idx_gzip": 200_000, "model": 140_000, "quantized": 130_000, "state": 140_000}


def judge(reader: Reader, path: Path) -> bool:
    """Whether the reader takes the file. Raises FindingError, or what the reader raised, for what it must not do.

    Warnings are errors, except the notes of `fastlenet.load` about what a file does not say.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            reader.read(path)
        except reader.refuses as error:
            line = str(error)
            if not line or not line.isprintable() or len(line) > 1500:
                raise FindingError(f"refused by {line!r}, which is not one short line") from error
            if (
                isinstance(error, (CheckpointError, DataError, ImageError))
                and str(path.parents[reader.file.count("/")]) not in line
            ):
                raise FindingError(f"refused by {line!r}, which does not name the file") from error
            return False
    return True
