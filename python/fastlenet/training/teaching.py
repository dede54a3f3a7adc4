"""What a teacher expects of the training images, exactly as the student sees them, and the folder that keeps it."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np

from fastlenet.augment import Transform
from fastlenet.backend import Array
from fastlenet.config import config
from fastlenet.data.dataset import Dataset
from fastlenet.fields import FieldValueError
from fastlenet.files import CheckpointError, shown_path, user_path
from fastlenet.formats.tensor_file import TensorFile, plain, write_tensors
from fastlenet.inference.forward import softmax
from fastlenet.training.teacher import Teacher

__all__ = ["Teaching"]

_KEY, _NAME, _FORMAT = "fastlenet_teacher", "log_probabilities", 1
_CURE = "delete it, or name another folder as teacher_cache"
Facts = Mapping[str, object]


class Teaching:
    """A teacher's probabilities of the images of each epoch.

    temperature: of the softmax; the logits of an ensemble are the logarithms of its mean probabilities. cache: a folder that
    keeps the logarithms by epoch, or None. Another run that sees the same images, by its augmentation and the seed of it, reads
    them there. seconds: the time that they took so far, or that reading them took.
    """

    def __init__(self, teacher: Teacher, temperature: float, cache: str | os.PathLike[str] | None = None) -> None:
        self.teacher, self.temperature = teacher, temperature
        self._folder = None if cache is None else _folder(cache)
        self.seconds = 0.0
        self._last: tuple[str, Array] | None = None

    def expect_fit(self, data: Dataset, transforms: Iterable[Transform | None]) -> None:
        """Raise FieldValueError for a teacher of other images, and CheckpointError for a file of another one in the cache.

        transforms: of all epochs.
        """
        self.teacher.expect_fit(data)
        if self._folder is None or not any(self._folder.iterdir()):
            return
        for transform in transforms:
            facts = self._facts(data, transform)
            path = self._path(facts)
            if path.exists():
                _expect_own(path, facts)

    def targets(self, data: Dataset, transform: Transform | None, proceed: Callable[[int], bool]) -> Array | None:
        """Returns the probabilities of the training images as the transform distorts them, float32 (N, classes).

        proceed: as Teacher.log_probabilities takes it. Raises CheckpointError for a damaged file in the cache.
        """
        start = time.perf_counter()
        facts = self._facts(data, transform)
        found = self._found(facts)
        if found is None:
            found = self.teacher.log_probabilities(data, transform, proceed)
            if found is not None:
                self._keep(facts, found)
        if found is not None:
            self._last = json.dumps(facts), found
            found = softmax(found / np.float64(self.temperature)).astype(np.float32)
        self.seconds += time.perf_counter() - start
        return found

    def _found(self, facts: Facts) -> Array | None:
        if self._last is not None and self._last[0] == json.dumps(facts):
            return self._last[1]
        if self._folder is None or not self._path(facts).exists():
            return None
        return _read(self._path(facts), facts)

    def _keep(self, facts: Facts, found: Array) -> None:
        """Write a file of the cache. If it cannot be written, a RuntimeWarning says so, and the training goes on."""
        if self._folder is None:
            return
        words = {_KEY: json.dumps({"facts": facts, "digest": _digest(facts, found)})}
        try:
            write_tensors(self._path(facts), {_NAME: found}, words)
        except CheckpointError as error:
            warnings.warn(f"teacher_cache: {error}; the training goes on without it", RuntimeWarning, stacklevel=2)
            self._folder = None

    def _path(self, facts: Facts) -> Path:
        assert self._folder is not None
        epoch = facts["epoch"]
        name = "plain" if epoch is None else f"epoch{epoch}"
        return self._folder / f"{name}-{_checksum(json.dumps(facts).encode())[:32]}.safetensors"

    def _facts(self, data: Dataset, transform: Transform | None) -> Facts:
        """All that decides the logarithms: the teacher, the images, their distortion, and what rounds."""
        built = config()
        return {
            "format": _FORMAT,
            "teacher": self.teacher.fingerprint,
            "data": data.fingerprint,
            "shape": [len(data.train_images), *data.input_shape],
            "classes": data.classes,
            "augmentation": None if transform is None else asdict(transform.augmentation),
            "seed": None if transform is None else transform.seed,
            "epoch": None if transform is None else transform.epoch,
            "level": self.teacher.level,
            "built": [built["version"], built["compiler"], " ".join(platform.libc_ver())],
        }


def _folder(path: str | os.PathLike[str]) -> Path:
    """A folder, made if it is not there. Raises FieldValueError for anything else."""
    folder = user_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FieldValueError("teacher_cache", str(path), f"a folder ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FieldValueError("teacher_cache", str(path), "a folder in which files can be written")
    return folder


def _checksum(content: bytes) -> str:
    import hashlib  # loads OpenSSL

    return hashlib.sha256(content).hexdigest()


def _digest(facts: Facts, found: Array) -> str:
    return _checksum(json.dumps(facts).encode() + plain(found).tobytes())


def _expect_own(path: Path, facts: Facts) -> tuple[TensorFile, object]:
    """Read the header of a file in the cache. Returns the file and its checksum. Raises CheckpointError for another one's."""
    file = TensorFile(path)
    try:
        saved = json.loads(file.metadata[_KEY])
        there, digest = dict(saved["facts"]), saved["digest"]
    except MemoryError:
        raise
    except Exception:  # RecursionError too
        raise CheckpointError(f"{shown_path(path)}: not of a teacher's cache; {_CURE}") from None
    other = [name for name, value in facts.items() if there.get(name) != value]
    if other:
        raise CheckpointError(f"{shown_path(path)}: made with another {other[0]} than this run's; {_CURE}")
    shape = cast("list[int]", facts["shape"])[0], facts["classes"]
    if file.shapes != {_NAME: shape}:
        raise CheckpointError(f"{shown_path(path)}: expects {_NAME} of shape {shape}, got {file.shapes}; {_CURE}")
    return file, digest


def _read(path: Path, facts: Facts) -> Array:
    file, digest = _expect_own(path, facts)
    found = file.read(file.size)[_NAME]
    if found.dtype != np.float32 or digest != _digest(facts, found):
        raise CheckpointError(f"{shown_path(path)}: damaged, it does not have the checksum that was saved with it; {_CURE}")
    return found
