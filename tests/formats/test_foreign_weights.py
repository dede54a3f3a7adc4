"""Weights of others: every type of number that can be read, files of other formats by name, and nothing read in vain."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

import fastlenet
from fastlenet import LeNet
from fastlenet.formats.parameters import load_model
from fastlenet.nn import Flatten, Linear, Sequential
from fastlenet.training.checkpoint import CheckpointError
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits

Array = npt.NDArray[Any]
Train = Callable[..., Result]


def write(path: Path, entries: Mapping[str, tuple[str, tuple[int, ...], bytes]], **metadata: str) -> Path:
    """A safetensors file, byte by byte as its specification says."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def refused(path: Path, model: Sequential | None = None) -> str:
    """The one line with which load_model refuses a file; it names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path, model)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.isprintable() and len(message) < 1000
    return message


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_what_safetensors_writes(dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Of every type that NumPy has, of no number, of one without dimensions, and of some."""
    arrays = {
        f"a{len(shape)}": np.asarray(rng.standard_normal(shape) * 9).astype(dtype) for shape in ((), (3,), (0, 4), (2, 3, 4))
    }
    save_file(arrays, tmp_path / "model", {"a": "b"})
    loaded = load_model(tmp_path / "model")
    assert loaded.keys() == arrays.keys() == load_file(tmp_path / "model").keys()
    for name, array in arrays.items():
        expect_same_bits(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_bfloat16(tmp_path: Path) -> None:
    """All 65,536 of them become the float32 of the same value: its upper half."""
    patterns = np.arange(65536, dtype=np.uint16)
    loaded = load_model(write(tmp_path / "model", {"a": ("BF16", (256, 256), patterns.tobytes())}))["a"]
    assert loaded.dtype == np.float32 and loaded.shape == (256, 256)
    np.testing.assert_array_equal(loaded.view(np.uint32).reshape(-1), patterns.astype(np.uint32) * 65536)
    assert loaded.reshape(-1)[0x3F80] == 1.0 and loaded.reshape(-1)[0xC040] == -3.0


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "x\n" * 1000])
def test_other_types_are_named(dtype: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path / "model", {"fc1.weight": (dtype, (2, 8), bytes(16))}))
    assert "'fc1.weight' is of type" in message and dtype[:7].split("\n")[0] in message and "F32, F16, BF16" in message


def test_files_of_other_formats(tmp_path: Path) -> None:
    """A reader of safetensors alone says what a file is, by its first bytes, and executes nothing in it."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os._exit, (7,)

    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    assert "a file of another program; fastlenet.load reads it" in refused(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + bytes(100))  # as PyTorch before 1.6
    assert "a file of another program" in refused(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    assert "a file of another program" in refused(path)
    for content, reason in NEVER_READ.items():
        path.write_bytes(content)
        assert reason in refused(path)
        with pytest.raises(CheckpointError, match=reason):
            fastlenet.load(path)


NEVER_READ = {
    pickle.dumps({"a": print}): "a pickle, which could run any code when it is loaded",
    b"\x93NUMPY" + bytes(100): "a NumPy array without a name",
    b"GGUF" + bytes(100): "a GGUF file",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n": "git lfs pull",
}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapped_networks(prefix: str, tmp_path: Path) -> None:
    """The names of torch.nn.DataParallel and torch.compile mean the network that they wrap."""
    trained, path = LeNet(3), tmp_path / "model"
    wrapped = {prefix + name: array for name, array in trained.state_dict().items()}
    save_file(wrapped, path)
    for state in (wrapped, load_model(path), load_model(path, LeNet())):
        model = LeNet()
        model.load_state_dict(state)
        expect_same_bits(model.parameter_buffer, trained.parameter_buffer)
    assert load_model(path, LeNet()).keys() == trained.state_dict().keys()


def test_a_layer_of_that_name() -> None:
    """A network that itself has a layer "module" keeps its names; a prefix that not all names have is none."""
    own = Sequential(Flatten(), Linear(4, 2), names=["flat", "module"], seed=1)
    other = Sequential(Flatten(), Linear(4, 2), names=["flat", "module"], seed=2)
    other.load_state_dict(own.state_dict())
    expect_same_bits(other.parameter_buffer, own.parameter_buffer)
    half = {("module." if "conv" in name else "") + name: array for name, array in LeNet().state_dict().items()}
    with pytest.raises(ValueError, match=r"conv1.bias is missing; .*module.conv1.bias is unexpected"):
        LeNet().load_state_dict(half)


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [(np.nan, "f4", "not finite"), (-np.inf, "f2", "not finite"), (1e39, "f8", "too large for float32")],
)
def test_weights_that_are_no_numbers(
    value: float, dtype: str, reason: str, train_here: Train, small_mnist: Path, tmp_path: Path
) -> None:
    """Refused by name, when they are loaded, and nothing is changed."""
    state = {name: array.astype(dtype) for name, array in LeNet(1).state_dict().items()}
    state["fc1.weight"][17, 4] = value
    model = LeNet()
    before = model.parameter_buffer.tobytes()
    with pytest.raises(ValueError, match=f"load_state_dict: fc1.weight holds a number that is {reason}"):
        model.load_state_dict(state)
    assert model.parameter_buffer.tobytes() == before
    save_file(state, tmp_path / "model")
    message = one_line(train_here("--data-dir", small_mnist, "--load-model", "model", "--epochs", 0))
    assert f"model: load_state_dict: fc1.weight holds a number that is {reason}" in message


def huge(path: Path, names: Mapping[str, tuple[int, ...]], size: int, last: str = "rest") -> Path:
    """A file with a true header over zeros that take no place on the disk; the last name's tensor takes all that is left."""
    entries, end = {}, 0
    for name, shape in names.items():
        length = 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + length]}
        end += length
    entries[last] = {"dtype": "F32", "shape": [(size - end) // 4], "data_offsets": [end, end + (size - end) // 4 * 4]}
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + entries[last]["data_offsets"][1])
    return path


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """Of 16 GB that are not this network only the header is read: it is refused in the memory that importing took."""
    path = huge(tmp_path / "model", {"model.layers.0.weight": (64, 64)}, 16 << 30)
    code = f"""
import resource
from fastlenet import LeNet, fit
from fastlenet.formats.parameters import load_model
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.ensemble import load_members
model = LeNet()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (load_model, load_checkpoint, lambda path: load_model(path, model), lambda path: load_members(path, model)):
    try: read({str(path)!r})
    except CheckpointError as error: print(error)
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192, "kilobytes"
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith(str(path)) for line in lines)
    assert "bytes of tensors, where at most 2,147,483,648 are expected" in lines[0]
    assert "not a checkpoint of fastlenet" in lines[1]
    assert "not this network's parameters; conv1.bias is missing; " in lines[2] == lines[3]


def test_an_ensemble_is_judged_before_it_is_read(tmp_path: Path) -> None:
    """Whether its members are this network, and how many there are."""
    from fastlenet.training.ensemble import load_members

    shapes = {f"member{i}.{name}": array.shape for i in range(2) for name, array in LeNet().state_dict().items()}
    path = huge(tmp_path / "model", shapes, 16 << 30, "member1.fc3.bias")
    with pytest.raises(CheckpointError, match=r"parameters; fc3\.bias is unexpected$"):
        load_members(path, LeNet())
    many = {f"member{i}.a": ("F32", (1,), bytes(4)) for i in range(1001)}
    with pytest.raises(CheckpointError, match="an ensemble of 1001 networks, more than 1000"):
        load_members(write(tmp_path / "many", many), Sequential(Flatten(), Linear(1, 1)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"abc", "3 bytes are not a header"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "a header of 1,152,921,504,606,846,976 bytes"),
        ((9).to_bytes(8, "little") + b"{}", "a header of 9 bytes in a file of 10"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((200000).to_bytes(8, "little") + b'{"a":' + b"[" * 199995, "recursion"),
        ((2).to_bytes(8, "little") + b"{}" + bytes(4), "14 bytes, but its header describes 10"),
    ],
    ids=["empty", "short", "length", "cut", "list", "deep", "too long"],
)
def test_what_is_no_safetensors_file(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    message = refused(path)
    assert "damaged, or not a safetensors file" in message and reason in message


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    "header",
    [
        entry(shape=[3]),
        entry(shape=[-2]),
        entry(shape=[True, 2]),
        entry(shape=[2.0]),
        entry(shape=[1] * 33 + [2]),
        entry(shape=2),
        entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0]),
        entry(data_offsets=[8, 0]),
        entry(data_offsets=[0, 2**63]),
        entry(data_offsets=[0]),
        entry(dtype=7),
        entry(dtype=None),
        {"a": 1},
        {"a": {}},
        entry() | {"b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
        entry() | {"b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"},  # as many bytes as there are
        entry() | {"__metadata__": []},
        entry() | {"__metadata__": {"a": 1}},
    ],
    ids=str,
)
def test_headers_that_lie(header: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert "damaged, or not a safetensors file" in refused(tmp_path / "model")


def test_twice_the_same_name(tmp_path: Path) -> None:
    one = json.dumps(entry()).encode()[1:-1]
    text = b"{" + one + b"," + one + b"}"
    (tmp_path / "model").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert "occurs twice" in refused(tmp_path / "model")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model")
    assert "not a file" in refused(tmp_path / "model")
    assert "not a file" in refused(Path(os.devnull))
    assert "not a file" in refused(tmp_path)


def test_what_the_system_does_not_give(tmp_path: Path) -> None:
    """No permission, also for root without its rights; a name that no file can have."""
    code = """
import os, sys
from fastlenet.formats.parameters import load_model
from fastlenet.training.checkpoint import CheckpointError
if os.geteuid() == 0: os.setuid(65534)
try: load_model(sys.argv[1])
except CheckpointError as error: print(error)
"""
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which lies where only its owner may look
        os.chmod(folder, 0o755)
        path = Path(folder) / "model"
        save_file({"a": np.zeros(1)}, path)
        path.chmod(0)
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{path}: no permission to read it\n", done
    with pytest.raises(CheckpointError, match=r"a\.\.\. \(.* characters\): cannot be read \(File name too long\)"):
        load_model(tmp_path / ("a" * 300))


def test_names_with_anything_in_them(tmp_path: Path) -> None:
    """What a stranger's file says stays in one line, and short."""
    names = {"a\nb\x1b[31m" + "c" * 5000: ("F32", (1,), bytes(4)), "d": ("F32", (1,), bytes(4))}
    assert r"\n" in refused(write(tmp_path / "model", names), LeNet())
    many = {f"layers.{i}.weight": ("F32", (1,), bytes(4)) for i in range(300)}
    assert "300 more" in refused(write(tmp_path / "model", many), LeNet())
