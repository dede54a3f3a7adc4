"""Checkpoints: a run's state in a file. It is written as a whole, and checked before it is used; nothing in it is executed."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest

from fastlenet.backend import Array
from fastlenet.config import config
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError, shown_path
from fastlenet.formats.state import expect_arrays
from fastlenet.formats.tensor_file import MAX_BYTES, TensorFile, plain, write_tensors
from fastlenet.nn import Sequential
from fastlenet.training.facts import RunFacts
from fastlenet.training.schedule import schedule_digest
from fastlenet.training.state import RunState
from fastlenet.training.weights import weights_digest

__all__ = [
    "MAX_MEMBERS",
    "CheckpointError",
    "NoCheckpointError",
    "OtherLevelError",
    "OtherRunError",
    "load_checkpoint",
    "restore_state",
    "save_checkpoint",
    "save_state",
]


_KEY = "fastlenet"
_FORMAT = 2  # format 1 had no training accuracy
MAX_MEMBERS = 1000  # networks in one file; this bounds the bytes that are read of one


class NoCheckpointError(CheckpointError):
    """The file is a safetensors file of parameters, not a checkpoint."""


class OtherLevelError(FieldError, CheckpointError):
    """The checkpoint was made at another level, where the last bits differ.

    value: the level there. expected: the level here. cure: how to continue at the level there.
    """

    def worded(self, name: str, cure: str | None = None) -> str:
        """The line; name: what allows to go on here all the same."""
        differs = f"made at level {self.value}, this is {self.expected}, whose last bits differ"
        return f"{self.where}{differs}; {self.cure if cure is None else cure}, or allow it with {name}"

    def __str__(self) -> str:
        return self.worded("allow_level_change=True")


class OtherRunError(FieldError, CheckpointError):
    """A checkpoint of a run with another recipe. field: of the recipe; expected: its value there; value: the one here."""

    def __str__(self) -> str:
        return f"{self.where}does not fit this run; made with {self.field} {self.expected}, this run has {_worded(self.value)}"


def _level(model: Sequential) -> str:
    """The level on which a run's last bits depend: an instruction-set level, "cuda" or "numpy"."""
    return model.level()


def _network(model: Sequential) -> tuple[str, ...]:
    """The class of a network, and its layers, which have the same shapes in many networks: words for an error."""
    layers = (f"{name} {type(layer).__name__}" for name, layer in zip(model.names, model.layers, strict=True))
    return tuple((word if word.isprintable() else ascii(word))[:100] for word in (type(model).__name__, *layers))


def _digest(tensors: Mapping[str, Array], facts: Mapping[str, object]) -> str:
    import hashlib  # here, because loading OpenSSL takes a fiftieth of the time of importing NumPy

    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        array = plain(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Array], facts: Mapping[str, object]) -> None:
    """Write a training state: arrays, and facts that JSON can represent. If it raises CheckpointError, the old file stays."""
    metadata = {"format": _FORMAT, "digest": _digest(tensors, facts), "facts": facts}
    write_tensors(path, tensors, {_KEY: json.dumps(metadata)})


def load_checkpoint(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Array], dict[str, object]]:
    """Returns the arrays and facts that save_checkpoint wrote. Raises CheckpointError for any other or a damaged file.

    max_bytes: the largest size of all arrays; a file with more is refused before they are read.
    """
    file = TensorFile(path)
    if _KEY not in file.metadata:
        raise NoCheckpointError(f"{shown_path(path)}: not a checkpoint of fastlenet; load_model reads files of parameters")
    try:
        saved = json.loads(file.metadata[_KEY])
        form, digest, facts = saved["format"], saved.get("digest"), saved.get("facts")
    except MemoryError:
        raise
    except Exception:  # RecursionError too
        raise CheckpointError(f"{shown_path(path)}: damaged, its facts cannot be read") from None
    if form != _FORMAT:
        raise CheckpointError(
            f"{shown_path(path)}: a checkpoint of format {reprlib.repr(form)}, this version reads format {_FORMAT}"
        )
    tensors = file.read(max_bytes)
    if not isinstance(facts, dict) or digest != _digest(tensors, facts):
        raise CheckpointError(f"{shown_path(path)}: damaged, its contents do not have the checksum that was saved with them")
    return tensors, facts


def save_state(state: RunState, path: str | os.PathLike[str]) -> None:
    """Write everything that the rest of a run depends on.

    Raises CheckpointError if the file cannot be written, and DivergedError if a weight is not finite. The old file then stays.
    """
    state.expect_finite()
    facts = RunFacts(
        version=config()["version"],
        level=_level(state.model),
        recipe=state.recipe,
        settings=state.settings,
        data=state.data.fingerprint,
        normalisation=(state.data.mean, state.data.std),
        schedule=None if state.schedule is None else schedule_digest(state.schedule, state.steps),
        sample_weight=_sample_weight(state),
        teacher=_teacher(state),
        network=_network(state.model),
        steps=state.steps,
        epoch=state.epoch,
        position=state.position,
        dropout_counter=state.model.dropout_counter,
        loss_sum=state.loss_sum,
        correct=state.correct,
        images=state.images,
        seconds=state.seconds,
        history=tuple(state.history.epochs),
    )
    tensors = {f"{part}.{name}": array for part, arrays in state.tensors().items() for name, array in arrays.items()}
    save_checkpoint(path, tensors, facts.as_json())


def _sample_weight(state: RunState) -> str | None:
    return None if state.sample_weight is None else weights_digest(state.sample_weight)


def _teacher(state: RunState) -> str | None:
    return None if state.teaching is None else state.teaching.teacher.fingerprint


def restore_state(state: RunState, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
    """Set a run to the state in a checkpoint of the same model, data and recipe.

    Raises CheckpointError, and then changes nothing.

    The recipe may have another number of epochs, but not fewer than are done. From the current step on, the learning rate and
    everything else that depends on the length is then as in a run that had this length from its start; schedule_note describes
    it. Images are normalised as in the checkpoint's run.
    """
    tensors, values = load_checkpoint(path, max_bytes=_bytes_at_most(state))
    try:
        facts = RunFacts.of(values)
        _expect_same_run(state, facts, allow_level_change)
        parts = _expect_tensors(state, tensors)
        steps_done = _expect_steps(state, facts, int(parts["optimizer"]["steps"][0]))
        state.model.load_state_dict(parts["model"])
    except (OtherLevelError, OtherRunError) as error:
        raise type(error)(error.field, error.value, error.expected, f"{shown_path(path)}: ", error.cure) from None
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: does not fit this run; {error}") from None
    state.optimizer.load_state_dict(parts["optimizer"])
    _take(state, facts, steps_done)
    state.passengers = parts["passenger"]
    for name, array in state.average.items():
        array[...] = parts["average"][name]
        if _begins_late(state, facts, steps_done):
            array[...] = state.model.parameter_buffer


def _begins_late(state: RunState, facts: RunFacts, steps_done: int) -> bool:
    """Whether the average of the weights must begin now, because it would have begun before in a run of the new length."""
    before = facts.recipe.average_from(facts.steps)
    return before is not None and state.average_from is not None and state.average_from <= steps_done < before


def _take(state: RunState, facts: RunFacts, steps_done: int) -> None:
    """Take the position, the schedule and the sums from checked facts."""
    state.epoch, state.position, state.images = facts.epoch, facts.position, facts.images
    state.history.epochs, state.model.dropout_counter = list(facts.history), facts.dropout_counter
    state.loss_sum, state.correct, state.seconds = facts.loss_sum, facts.correct, facts.seconds
    if facts.normalisation is not None:
        state.normalise(*facts.normalisation)
    state.starts = state.batch_starts(state.recipe, state.epoch, state.position, state.images)
    state.steps = steps_done + state.steps_left(state.recipe, state.epoch, state.position, state.images)
    state.average_from = state.recipe.average_from(state.steps)
    state.schedule_note = ""
    if facts.recipe.epochs != state.recipe.epochs:
        state.schedule_note = (
            f"{state.recipe.epochs} epochs instead of {facts.recipe.epochs}: the learning rate goes on as in a run of "
            f"{state.steps} steps, from step {steps_done} on"
        )


def _cure(there: str, here: str) -> str:
    """How to continue at a CPU's level: FASTLENET_ISA, and for bf16 the instruction."""
    (isa, _, instruction), (_, _, own) = there.partition("+"), here.partition("+")
    if instruction and own:
        return f"set FASTLENET_ISA={isa} and FASTLENET_BF16={instruction}, or {instruction}-emulated"
    return f"set FASTLENET_ISA={isa}" + (f" and precision={'bf16' if instruction else 'float32'}" if instruction != own else "")


def _bytes_at_most(state: RunState) -> int:
    """The largest size of a checkpoint of this run: four times the parameters, and the networks finished before."""
    return max(64 << 20, 4 * state.model.parameter_buffer.size * (MAX_MEMBERS + 5))


def _expect_same_run(state: RunState, facts: RunFacts, allow_level_change: bool) -> None:
    """Raise OtherLevelError or ValueError if the facts are those of another run."""
    level = _level(state.model)
    if facts.level != level and not allow_level_change:
        backends = {"cuda": "train on cuda", "numpy": "train on fastlenet.reference"}
        cure = backends.get(facts.level) or _cure(facts.level, level)
        raise OtherLevelError("level", facts.level, level, "", cure)
    if facts.data != state.data.fingerprint:
        raise ValueError(f"made on other training data than {state.data.name}")
    network = _network(state.model)
    if facts.network and facts.network != network:
        pairs = zip_longest(facts.network, network, fillvalue="no more layer")
        there, here = next((there, here) for there, here in pairs if there != here)
        raise ValueError(f"made with another network; {there} there, {here} here")
    if facts.normalisation is not None:  # the data set checks it
        replace(state.data, mean=facts.normalisation[0], std=facts.normalisation[1])
    for name, value in vars(facts.recipe).items():
        if name != "epochs" and value != getattr(state.recipe, name):
            raise OtherRunError(name, getattr(state.recipe, name), _worded(value))
    if facts.schedule != (None if state.schedule is None else schedule_digest(state.schedule, facts.steps)):
        raise ValueError("made with another schedule, which fit takes as a function")
    if facts.sample_weight != _sample_weight(state):
        if facts.sample_weight is None:
            raise ValueError("made without sample_weight; leave it out")
        another = "" if state.sample_weight is None else "another "
        raise ValueError(f"made with {another}sample_weight; give the same")
    if facts.teacher != _teacher(state):
        if facts.teacher is None:
            raise ValueError("made without a teacher; leave it out")
        raise ValueError(f"made with {'a' if state.teaching is None else 'another'} teacher; give the same")
    least = facts.epoch + (facts.position > 0)
    if state.recipe.epochs < least:
        raise ValueError(f"epochs expects at least {least}, where it stands, got {state.recipe.epochs}")


def _worded(value: object) -> str:
    """A recipe's value for an error: class_weight may be long, or empty."""
    text = str(value)
    return "none" if not text else text if len(text) <= 60 else f"{text[:57]}..."


def _expect_steps(state: RunState, facts: RunFacts, done: int) -> int:
    """The steps done. Raises ValueError if they do not agree with the position, the data and the length."""
    batches = state.batches_per_epoch
    none_left = batches is not None and 0 < batches <= facts.position
    if facts.images >= max(1, len(state.data.train_images)) or none_left:
        raise ValueError(f"it stands at batch {facts.position}, after {facts.images} images, where no batch is left")
    if facts.steps != done + state.steps_left(facts.recipe, facts.epoch, facts.position, facts.images):
        raise ValueError(f"made for {facts.steps} steps, which are not those of this data and recipe from step {done} on")
    return done


def _expect_tensors(state: RunState, tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The tensors by part. Raises ValueError unless each part, except the passengers, has this run's arrays and is finite."""
    own = state.tensors()
    parts: dict[str, dict[str, Array]] = {part: {} for part in own}
    for name, array in tensors.items():
        part, _, key = name.partition(".")
        if part not in parts:
            raise ValueError(f"{name[:80]!r} is not of a run")
        parts[part][key] = array
    for part in ("model", "average"):
        expect_arrays(part, parts[part], own[part])
    state.optimizer.expect_state(parts["optimizer"])
    return parts
