"""Files of parameters and training states: whole or untouched, checked before they are believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fastlenet import LeNet
from fastlenet.files import expect_writable
from fastlenet.formats.parameters import load_model, save_model
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from helpers.expect import expect_same_bits

TENSORS = {"model.a": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer.steps": np.array([7], np.int64)}
FACTS = {"epoch": 2, "recipe": {"lr": 0.1}}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_written(number: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not written; fc2\.bias holds a number that is not finite$"):
        save_model(path, {"fc2.bias": np.array([0, number], np.float32)})
    assert not path.exists()


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    tensors, facts = load_checkpoint(path)
    assert tensors.keys() == TENSORS.keys() and facts == FACTS
    for name, array in TENSORS.items():
        expect_same_bits(tensors[name], array)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_big_endian_and_transposed(tmp_path: Path) -> None:
    """An array's layout in memory is not what is saved."""
    array = np.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "state", {"big": array.astype(">f4"), "turned": array.T}, {})
    loaded, _ = load_checkpoint(tmp_path / "state")
    np.testing.assert_array_equal(loaded["big"], array)
    np.testing.assert_array_equal(loaded["turned"], array.T)
    with pytest.raises(TypeError, match=r"name expects one of .*<f4.*, got <c8"):
        save_checkpoint(tmp_path / "state", {"name": np.zeros(2, np.complex64)}, {})


def test_model_files_are_plain_safetensors(tmp_path: Path) -> None:
    model, path = LeNet(seed=5), tmp_path / "model.safetensors"
    save_model(path, model.state_dict())
    for loaded in (load_file(path), load_model(path)):
        assert loaded.keys() == model.state_dict().keys()
        for name, array in model.state_dict().items():
            expect_same_bits(loaded[name], array)


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    before = os.umask(0o027)
    try:
        save_model(path, TENSORS)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot be written \(No space left on device\)"):
        save_checkpoint(path, TENSORS, {"epoch": 3})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_damage_is_noticed(every: int, tmp_path: Path) -> None:
    """Whatever bit flips (or one of each byte), and wherever a checkpoint is cut: refused, in a line that names the file."""
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    good = path.read_bytes()
    for position in range(len(good)):
        bits = range(position % every, 8, every)
        flipped = [good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :] for bit in bits]
        for content in (*flipped, good[:position]):
            path.write_bytes(content)
            try:
                tensors, facts = load_checkpoint(path)
            except CheckpointError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                raise AssertionError(f"byte {position}: {tensors}, {facts}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"hello"), "damaged, or not a safetensors file"),
        (lambda path: path.write_bytes(b""), "damaged, or not a safetensors file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: None, "no such file"),
        (lambda path: save_file(TENSORS, path), "not a checkpoint of fastlenet"),
        (lambda path: save_file(TENSORS, path, {"fastlenet": "[]"}), "damaged, its facts cannot be read"),
        (
            lambda path: save_file(TENSORS, path, {"fastlenet": json.dumps({"format": 9, "digest": ""})}),
            "format 9, this version",
        ),
    ],
    ids=["text", "empty", "folder", "missing", "foreign", "no facts", "newer format"],
)
def test_refused(make: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_shape_of_a_number_counts(tmp_path: Path) -> None:
    """The checksum tells an array of one number from a number; a number stays one."""
    path = tmp_path / "state"
    save_checkpoint(path, {"a": np.array(2.5, np.float32)}, {})
    assert load_checkpoint(path)[0]["a"].shape == ()
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header["a"]["shape"] = [1]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[-4:])
    with pytest.raises(CheckpointError, match="do not have the checksum"):
        load_checkpoint(path)


def test_expect_writable(tmp_path: Path) -> None:
    expect_writable(tmp_path / "new")
    with pytest.raises(CheckpointError, match="is a folder"):
        expect_writable(tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder"):
        expect_writable(tmp_path / "no" / "such")
    code = """
import os
from fastlenet.files import CheckpointError, expect_writable
if os.geteuid() == 0: os.setuid(65534)
try: expect_writable("/etc/fastlenet")
except CheckpointError as error: print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "/etc/fastlenet: no permission to write in /etc", result.stderr
