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
from helpers.small_files import caffe, npz, onnx
from helpers.torch_files import save, save_old

FILES = Path(__file__).parent / "files"


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
