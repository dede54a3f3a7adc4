"""Files of other programs with random damage: refused in one line, or a model that predicts."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet import Chain, nn
from fastlenet.files import CheckpointError
from helpers.damage import Draw, cut, flip, insert, move, seeds
from helpers.protobuf import message
from helpers.torch_files import save, save_old

FILES = Path(__file__).parent / "files"


def caffe(path: Path) -> Path:
    """A convolution, a pooling and a matrix, of 5x5 pixels."""
    kernel = {7: {1: np.array([2, 1, 2, 2])}, 5: np.ones(8, np.float32)}
    matrix = {7: {1: np.array([3, 8])}, 5: np.ones(24, np.float32)}
    layers = [
        {
            1: "c",
            2: "Convolution",
            3: "x",
            4: "c",
            7: [kernel, {5: np.ones(2, np.float32), 7: {1: np.array([2])}}],
            106: {4: 2},
        },
        {1: "p", 2: "Pooling", 3: "c", 4: "p", 121: {2: 2, 3: 2}},
        {1: "m", 2: "InnerProduct", 3: "p", 4: "m", 7: [matrix], 117: {2: 0}},
    ]
    path.write_bytes(message({1: "net", 4: [1, 1, 5, 5], 100: layers}))
    return path


def onnx(path: Path) -> Path:
    """The same."""

    def tensor(name: str, *shape: int) -> dict[int, object]:
        return {1: list(shape), 2: 1, 8: name, 9: np.ones(shape, np.float32).tobytes()}

    nodes = [
        {1: ["x", "w"], 2: "a", 4: "Conv"},
        {1: "a", 2: "b", 4: "MaxPool", 5: [{1: "kernel_shape", 8: [2, 2], 20: 7}, {1: "strides", 8: [2, 2], 20: 7}]},
        {1: "b", 2: "c", 4: "Flatten"},
        {1: ["c", "m"], 2: "y", 4: "Gemm", 5: [{1: "transB", 3: 1, 20: 2}]},
    ]
    shape = {1: {1: 1, 2: {1: [{2: "n"}, {1: 1}, {1: 5}, {1: 5}]}}}
    graph = {1: nodes, 5: [tensor("w", 2, 1, 2, 2), tensor("m", 3, 8)], 11: {1: "x", 2: shape}, 12: {1: "y"}}
    path.write_bytes(message({1: 8, 7: graph, 8: {2: 13}}))
    return path


def npz(path: Path) -> Path:
    np.savez(path, **Chain((1, 2, 3)).state_dict())
    return path


def copied(name: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes((FILES / name).read_bytes())
        return path

    return write


def within(content: bytes, draw: Draw) -> bytes:
    """A member of an archive damaged, and the archive written anew, so that its checksums are right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        chosen = names[draw.integers(len(names))]
        for name in names:
            member = old.read(name)
            new.writestr(name, SIMPLE[draw.integers(4)](member, draw) if name == chosen and len(member) > 1 else member)
    return made.getvalue()


SIMPLE = (flip, cut, insert, move)
MAKERS: dict[str, Callable[[Path], Path]] = {
    "m.pt": lambda path: save(path, Chain((1, 2, 3)).state_dict()),
    "old.pt": lambda path: save_old(path, Chain((1, 2, 3)).state_dict()),
    "m.npz": npz,
    "m.caffemodel": caffe,
    "m.onnx": onnx,
    "m.keras": copied("keras3_nested.keras"),
    "new.h5": copied("keras3_nested.h5"),
    "old.h5": copied("keras2_nested.h5"),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("seed", "cases"), seeds(60))
def test_damaged_files(seed: int, cases: int, name: str, tmp_path: Path) -> None:
    print(f"FASTLENET_FUZZ_SEED={seed}")
    path, draw = MAKERS[name](tmp_path / name), np.random.default_rng(seed)
    if path.suffix in (".keras", ".h5"):
        cases //= 30  # a process reads each
    good, refused = path.read_bytes(), 0
    shape = loaded(path).input_shape or (1,)
    damages = (*SIMPLE, within) if good.startswith(b"PK") else SIMPLE
    for number in range(cases):
        damage = damages[number % len(damages)]
        path.write_bytes(damage(good, draw))
        case = f"seed {seed}, case {number}, {damage.__name__}"
        try:
            model = loaded(path)
        except CheckpointError as error:
            line = str(error)
            assert str(path) in line and line.isprintable() and len(line) < 900, (case, line)
            refused += 1
            continue
        assert np.isfinite(model.parameter_buffer).all(), case
        with np.errstate(all="ignore"):
            assert len(model(np.zeros((2, *(model.input_shape or shape)), np.float32))) == 2, case
    assert refused > 0.2 * cases


def loaded(path: Path) -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fastlenet.load(path)
    assert isinstance(model, nn.Sequential)
    return model
