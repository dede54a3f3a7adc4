"""Checkpoints and models with random damage, and forged ones whose checksum is right: refused in one line, or read rightly."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes

from fastlenet.data import Dataset
from fastlenet.formats.parameters import load_model, save_model
from fastlenet.nn import Dropout, Flatten, Linear, ReLU, Sequential
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.damage import Draw, cut, flip, insert, move, seeds

Array = npt.NDArray[Any]

RECIPES = {
    "adamw": Recipe(epochs=3, batch_size=16, optimizer="adamw", lr=1e-3, shift=0, dropout=0.25, ema=0.9, ema_start=0.2),
    "sgd": Recipe(epochs=3, batch_size=16, batch_size_end=32, lr=1e-3, shift=0, dropout=0.25),
}


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def make_data() -> Dataset:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (90, 2, 3), np.uint8), draw.integers(0, 10, 90, np.uint8)
    return Dataset("random", images[:80], labels[:80], images[80:], labels[80:], 10, 0.5, 0.25)


DATA = make_data()


def trainer(recipe: Recipe) -> Trainer:
    model = Sequential(Flatten(), Linear(6, 5), ReLU(), Dropout(0.25), Linear(5, 10))
    return Trainer(model, DATA, recipe, evaluate_every_epoch=False, passengers={"member0.a": np.ones(2, np.float32)})


class Stop(Callback):
    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        trainer.stop_requested = (trainer.state.epoch, trainer.state.position) >= (1, 2)


def save_in_the_middle(path: Path, recipe: Recipe) -> None:
    run = trainer(recipe)
    with pytest.raises(InterruptedRunError):
        run.run(Stop())
    run.save(path)


def snapshot(run: Trainer) -> Any:
    """Everything that restoring could change."""
    arrays = {f"{part}.{name}": array for part, arrays in run.state.tensors().items() for name, array in arrays.items()}
    plain = {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()}
    state = run.state
    numbers = state.epoch, state.position, state.images, state.loss_sum, state.seconds, state.steps, state.average_from
    schedule = [state.rate(step) for step in range(state.steps)], state.schedule_note
    history = list(state.history.epochs)
    return plain, numbers, schedule, history, state.model.dropout_counter, state.starts, state.recipe, id(state.data)


def refusal(read: Callable[[], Any], path: Path, case: str) -> bool:
    """Whether a file was refused; in one short line that names it."""
    try:
        read()
    except CheckpointError as error:
        message = str(error)
        assert str(path) in message and message.isprintable() and len(message) < 1500, (case, message)
        return True
    return False


# --- damaged bytes ---


def parts(content: bytes) -> tuple[bytes, bytes]:
    """The header's text, and the tensors."""
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def joined(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def other_length(content: bytes, draw: Draw) -> bytes:
    true = int.from_bytes(content[:8], "little")
    lengths = [
        0,
        1,
        true - 1,
        true + 1,
        len(content),
        2**24,
        2**24 + 1,
        2**31,
        2**32,
        2**63,
        2**64 - 1,
        int(draw.integers(2**62)),
    ]
    return lengths[draw.integers(len(lengths))].to_bytes(8, "little") + content[8:]


def nested(content: bytes, draw: Draw) -> bytes:
    header, data = parts(content)
    deep = b"[" * int(draw.integers(1, 100_000))
    return joined(header[:-1] + b',"x":' + deep if draw.integers(2) else deep, data)


def other_entry(content: bytes, draw: Draw) -> bytes:
    """An entry of the header changed: its type, shape, place or name."""
    text, data = parts(content)
    header = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    name = names[draw.integers(len(names))]
    odd = [-1, 0, 1, 2**31, 2**63, 2**64, 1.0, True, None, "1", [], [1]]
    number = odd[draw.integers(len(odd))]
    dtypes = [
        "F64",
        "F32",
        "F16",
        "BF16",
        "I64",
        "I32",
        "BOOL",
        "F8_E4M3",
        "F8_E5M2",
        "F8_E8M0",
        "F4",
        "C64",
        "",
        "f32",
        7,
        None,
    ]
    what = draw.integers(6)
    if what == 0:
        header[name]["dtype"] = dtypes[draw.integers(len(dtypes))]
    elif what == 1:
        shape = header[name]["shape"]
        header[name]["shape"] = [[*shape, 1], shape[:-1], [], [number, *shape], shape[::-1], number][draw.integers(6)]
    elif what == 2:
        offsets = header[name]["data_offsets"]
        offsets[draw.integers(2)] = number
    elif what == 3:
        header[names[draw.integers(len(names))] + draw.choice(["", "x", "\n"])] = header.pop(name)
    elif what == 4:
        other = names[draw.integers(len(names))]
        header[name]["data_offsets"] = header[other]["data_offsets"]
    else:
        del header[name][draw.choice(list(header[name]))]
    return joined(json.dumps(header).encode(), data)


DAMAGES = (flip, cut, insert, move, other_length, nested, other_entry)


@pytest.mark.parametrize(("seed", "cases"), seeds(100))
def test_damaged_checkpoints(seed: int, cases: int, tmp_path: Path) -> None:
    """A changed file is refused, or what is read of it is what was saved; and a run that refuses it stays as it was."""
    print(f"FASTLENET_FUZZ_SEED={seed}")
    path, draw = tmp_path / "state", np.random.default_rng(seed)
    save_in_the_middle(path, RECIPES["adamw"])
    good, run = path.read_bytes(), trainer(RECIPES["adamw"])
    tensors, facts = load_checkpoint(path)
    expected, before, refused = repr((facts, tensors)), snapshot(run), 0
    for number in range(cases):
        damage = DAMAGES[number % len(DAMAGES)]
        path.write_bytes(damage(good, draw))
        case = f"seed {seed}, case {number}, {damage.__name__}"
        loaded: list[Any] = []
        if refusal(lambda loaded=loaded: loaded.extend(load_checkpoint(path)), path, case):
            assert refusal(lambda: run.restore(path), path, case)
            assert snapshot(run) == before, case
            refused += 1
        else:
            assert repr((loaded[1], {name: loaded[0][name] for name in tensors})) == expected and len(loaded[0]) == len(
                tensors
            ), case
    assert refused > 0.9 * cases


@pytest.mark.parametrize(("seed", "cases"), seeds(100))
def test_damaged_models(seed: int, cases: int, tmp_path: Path) -> None:
    """A changed file is refused, or read as the library of safetensors reads it."""
    print(f"FASTLENET_FUZZ_SEED={seed}")
    path, draw = tmp_path / "model", np.random.default_rng(seed)
    state = {name: draw.standard_normal(3 + i).astype(kind) for i, (name, kind) in enumerate(zip("abcd", "fdef", strict=True))}
    state |= {"n": np.arange(4), "s": np.zeros((), np.float32), "z": np.zeros((0, 3), np.float32)}
    save_model(path, state)
    good, refused = path.read_bytes(), 0
    for number in range(cases):
        damage = DAMAGES[number % len(DAMAGES)]
        content = damage(good, draw)
        path.write_bytes(content)
        case = f"seed {seed}, case {number}, {damage.__name__}"
        loaded: list[dict[str, Array]] = []
        if refusal(lambda loaded=loaded: loaded.append(load_model(path)), path, case):
            refused += 1
            continue
        if b'"BF16"' in content:
            continue  # which the library reads for NumPy only with another package
        try:
            theirs = load_bytes(content)
        except SafetensorError as error:
            raise AssertionError(f"{case}: the library refuses it ({error})") from None
        assert loaded[0].keys() == theirs.keys(), case
        for name, array in theirs.items():
            ours = loaded[0][name]
            assert (ours.dtype, ours.shape, ours.tobytes()) == (array.dtype, array.shape, array.tobytes()), case
    assert 0.4 * cases < refused < cases


# --- forged contents under a right checksum ---

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 5, 1.5, -0.5, float("nan"), float("inf"), -float("inf"), 1e300),
    *(2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, "", "x", "\n", "x" * 3000, "\ud800", [], {}, [0] * 3, {"a": 1}),
    [[[[[[1]]]]]],
)


def forge_facts(facts: dict[str, Any], draw: Draw) -> Any:
    """A fact, or a fact's part, replaced, left out or added; now and then all of them."""
    if not draw.integers(40):
        return ODD[draw.integers(len(ODD))]
    holder: Any = facts
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[draw.integers(len(keys))]
        if not (isinstance(holder[key], (dict, list)) and holder[key] and draw.integers(3)):
            break
        holder = holder[key]
    what = draw.integers(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder["more"] = ODD[draw.integers(len(ODD))]
    elif what == 2 and isinstance(holder[key], (int, float)):
        holder[key] += int(draw.integers(-2, 3))
    else:
        holder[key] = ODD[draw.integers(len(ODD))]
    return facts


def forge_tensors(tensors: dict[str, Array], draw: Draw) -> None:
    name = list(tensors)[draw.integers(len(tensors))]
    array = tensors[name]
    number = [np.nan, np.inf, -np.inf, -1.0, 3e38, 1e-45][draw.integers(6)]
    what = draw.integers(8)
    if what == 0:
        del tensors[name]
    elif what == 1:
        tensors[str(draw.choice(["more", "model.more", "optimizer.more", "passenger.b", "."]))] = array
    elif what == 2:
        tensors[name] = array.reshape([(1, *array.shape), (array.size,), (-1, 1)][draw.integers(3)])
    elif what == 3:
        tensors[name] = array.astype(str(draw.choice(["f8", "f2", "i8", "i4", "?", ">f4"])))
    elif what == 4:
        tensors[name] = array.reshape(-1)[0]
    elif array.dtype.kind == "f":
        array.reshape(-1)[draw.integers(array.size)] = number
    else:
        array[...] = [-1, 0, 1, 7, 2**62, -(2**63)][draw.integers(6)]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("seed", "cases"), seeds(50))
def test_forged_checkpoints(seed: int, cases: int, name: str, tmp_path: Path) -> None:
    """Refused, and the run is as it was; or possible, and then the run goes on to its end."""
    print(f"FASTLENET_FUZZ_SEED={seed}")
    path, draw = tmp_path / "state", np.random.default_rng(seed)
    save_in_the_middle(path, RECIPES[name])
    tensors, facts = load_checkpoint(path)
    run = trainer(RECIPES[name])
    before, refused = snapshot(run), 0
    for number in range(cases):
        forged, changed = {key: array.copy() for key, array in tensors.items()}, copy.deepcopy(facts)
        if draw.integers(3):
            changed = forge_facts(changed, draw)
        else:
            forge_tensors(forged, draw)
        save_checkpoint(path, forged, changed)
        case = f"seed {seed}, case {number}"
        if refusal(lambda run=run: run.restore(path), path, case):
            refused += 1
            assert snapshot(run) == before, case
            continue
        try:
            with np.errstate(all="ignore"):
                run.run()
        except DivergedError:
            pass
        else:
            assert run.state.epoch == 3 and len(run.state.history.epochs) == 3, case
        run = trainer(RECIPES[name])
    assert 0.5 * cases < refused < cases
