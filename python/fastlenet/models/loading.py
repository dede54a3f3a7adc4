"""Loads a model from a file: by the file's description of it, or else by the names and shapes of the arrays."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fastlenet import ops as kernel_ops
from fastlenet.files import CheckpointError, shown_path, user_path
from fastlenet.formats.foreign import Format, foreign_format
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.models.describing import described
from fastlenet.models.ensemble import Ensemble
from fastlenet.models.foreign.understanding import filled, understood
from fastlenet.models.recognising import MNIST, Arrays, Asked, Note, Recognised, UndecidedError, recognise
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel
from fastlenet.quantization.loading import described as quantized
from fastlenet.quantization.saving import KEY
from fastlenet.training.ensemble import members_facts, split_members

__all__ = ["Loaded", "UndecidedFileError", "load", "read_model"]


class UndecidedFileError(CheckpointError):
    """A file that does not say enough. field: the argument of `load` that says it; worded: the message with its other name."""

    def __init__(self, path: Path, error: UndecidedError) -> None:
        super().__init__(f"{shown_path(path)}: {error}")
        self.path, self.error, self.field = path, error, error.field

    def worded(self, name: str) -> str:
        return f"{shown_path(self.path)}: {self.error.worded(name)}"


@dataclass(frozen=True)
class Loaded:
    """A model from a file. kind: the file's format in words. notes: what was assumed, because the file does not say it."""

    model: Sequential | Ensemble | QuantizedModel
    kind: str
    notes: tuple[Note, ...]


def load(
    path: str | os.PathLike[str],
    *,
    network: str | Sequential | None = None,
    image_size: int | tuple[int, int] | None = None,
    ops: ModuleType = kernel_ops,
) -> Sequential | Ensemble | QuantizedModel:
    """Returns the model in a file, in evaluation mode: one that `model.save` or `fastlenet train --save-model` wrote, or one of
    another program: PyTorch's `.pt`, Keras's `.keras` and `.h5`, Caffe's `.caffemodel`, ONNX, or NumPy's `.npz`. Keras's files
    need the extra `keras`. Where a file describes its layers, the model is a Sequential of them, with its normalisation.

    For the file of an ensemble it returns an Ensemble, and for that of a quantized network a QuantizedModel.
    Files without an architecture load too if their arrays are those of a LeNet or a Chain, by name, or by shape and order. Such
    a file does not say how its images were normalised. For a LeNet with 28x28 gray images and ten classes, `load` assumes
    MNIST's mean and standard deviation. A UserWarning says what was assumed.

    network: for a file without an architecture, "lenet" or "lenet5", or a model with these arrays, which is filled and
    returned. image_size: the (height, width) of its images, or one number for both, if the file does not say it. ops: the
    backend.

    The file is checked before an array is made, and nothing in it is executed. Raises CheckpointError, in one line, for any
    other file and for a damaged or hostile one.

        >>> import fastlenet
        >>> fastlenet.LeNet().save("lenet.safetensors")
        >>> model = fastlenet.load("lenet.safetensors")
        >>> model.input_shape, model["conv1"]
        ((1, 28, 28), Conv2d(kernel_size=(5, 5), stride=(1, 1), padding=(0, 0), in_channels=1, out_channels=20, bias=True))
    """
    loaded = read_model(path, network=network, image_size=image_size, ops=ops)
    for note in loaded.notes:
        warnings.warn(f"{shown_path(user_path(path))}: {note}", UserWarning, stacklevel=2)
    return loaded.model


def read_model(
    path: str | os.PathLike[str],
    *,
    network: str | Sequential | None = None,
    image_size: int | tuple[int, int] | None = None,
    ops: ModuleType = kernel_ops,
) -> Loaded:
    """Returns the model in a file, its format, and what was assumed. The arguments and the errors are those of `load`."""
    file = user_path(path)
    asked = Asked(network, image_size, ops)  # type: ignore[arg-type]  # which converts one number to two
    kind = foreign_format(file)
    try:
        read = _own(file, asked) if kind is None else _foreign(file, kind, asked)
    except CheckpointError:
        raise
    except UndecidedError as error:
        raise UndecidedFileError(file, error) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{shown_path(file)}: no model to load; {error}") from None
    first = read.model[0] if isinstance(read.model, Ensemble) else read.model
    if isinstance(first, QuantizedModel):
        return read
    return Loaded(read.model, read.kind, (*read.notes, _normalisation(first)) if first.facts is MNIST else read.notes)


def _normalisation(model: Sequential) -> Note:
    """That a file does not say how its images are normalised, and that MNIST's numbers are taken."""
    guess = f"taken as those of MNIST, by mean {model.mean} and std {model.std}"
    return Note(f"does not say how its images are normalised; {guess}", of_pixels=True)


def _own(path: Path, asked: Asked) -> Loaded:
    """The model in a safetensors file, whose header decides before a tensor is read."""
    file = TensorFile(path)
    if "fastlenet" in file.metadata:
        cure = "fit(resume=...) continues it, and fastlenet train --resume FILE --save-model MODEL makes a model of it"
        raise CheckpointError(f"{shown_path(path)}: a checkpoint of a run, not a model; {cure}")
    file.expect_known_types()
    if KEY in file.metadata:
        return Loaded(quantized(file), "a safetensors file of a quantized network", ())
    if "fastlenet_version" in file.metadata:
        make, shapes = described(file, asked.ops)
        found = [Recognised(make, {name: name for name in part}) for part in shapes]
    else:
        found = []
        for part in split_members(file.shapes, path) or [{}]:
            found.append(_recognised(path, Arrays(part), asked))
        if any(other.names != found[0].names for other in found):
            raise _unknown(path)
    arrays = file.read(file.size)
    states = split_members(arrays, path) if len(found) > 1 else [arrays]
    models = [filled(one, state) for one, state in zip(found, states, strict=True)]
    notes = (found[0].note,) if found[0].note else ()
    weights = None
    if len(models) > 1 and "fastlenet_version" in file.metadata:
        kinds, weights = members_facts(file.metadata, len(models))
        for model, kind in zip(models, kinds, strict=True):
            model.set_facts(preprocessing=kind)
    return Loaded(models[0] if len(models) == 1 else Ensemble(models, weights), "a safetensors file", notes)


def _foreign(path: Path, kind: Format, asked: Asked) -> Loaded:
    """The model in a file of another program."""
    found = understood(kind.read(path), kind, asked)
    if found is None:
        raise _unknown(path)
    return Loaded(found.model, kind.name, found.notes)


def _recognised(path: Path, arrays: Arrays, asked: Asked) -> Recognised:
    found = recognise(arrays, asked)
    if found is None:
        raise _unknown(path)
    return found


def _unknown(path: Path) -> CheckpointError:
    cure = "build the model, and fill it by fastlenet.load(FILE, network=model)"
    return CheckpointError(f"{shown_path(path)}: no architecture, and its shapes are not those of LeNet or Chain; {cure}")
