"""Files of torch.save without PyTorch: the tensors come back to the bit, and nothing else is read, called or believed."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet.files import CheckpointError
from fastlenet.formats.pytorch import read_pytorch
from fastlenet.formats.unpickling import _CALLS, _INSTRUCTIONS, Unpickler
from helpers.expect import expect_same_bits
from helpers.torch_files import Pickled, archive, floats, save, save_old, state_pickle

Array = npt.NDArray[Any]
View = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape, strides

STATE = {
    "0.weight": floats(18).reshape(2, 1, 3, 3),
    "0.bias": floats(2),
    "3.weight": floats(24).reshape(3, 8),
    "n": np.arange(3),
}


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(CheckpointError, match=pattern) as caught:
        read_pytorch(path)
    message = str(caught.value)
    assert str(path) in message and message.isprintable() and len(message) < 700


def same(read: dict[str, Array], state: dict[str, Array]) -> None:
    assert [*read] == [*state]
    for name, array in state.items():
        expect_same_bits(np.ascontiguousarray(read[name]), array)
        assert read[name].dtype == array.dtype and read[name].shape == array.shape


# --- what is read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [save, save_old])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_a_state_dict(write: Callable[..., Path], dtype: str, tmp_path: Path) -> None:
    state = {name: array.astype(dtype if array.dtype.kind == "f" else array.dtype) for name, array in STATE.items()}
    same(read_pytorch(write(tmp_path / "m.pt", state)), state)


@pytest.mark.parametrize("write", [save, save_old])
def test_bfloat16(write: Callable[..., Path], tmp_path: Path) -> None:
    """Becomes the float32 of the same value."""
    path = write(tmp_path / "m.pt", {"a": (floats(8).view(np.uint32) >> 16).astype(np.uint16)})
    same(read_pytorch(path), {"a": floats(8)})


def test_views(tmp_path: Path) -> None:
    """A transposed tensor, one that starts within its storage, one without dimensions and one without elements."""
    storage = floats(12)
    views = {"t": (0, (4, 3), (1, 4)), "part": (3, (4,), (1,)), "one": (5, (), ()), "none": (0, (0, 3), (3, 1))}
    path = archive(tmp_path / "m.pt", views_pickle(views, 12), [storage])
    expected = {"t": storage.reshape(3, 4).T, "part": storage[3:7], "one": storage[5], "none": storage[:0].reshape(0, 3)}
    read = read_pytorch(path)
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array)


def views_pickle(
    views: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]], count: int, kind: str = "FloatStorage"
) -> bytes:
    """Several tensors of one storage: the offset, the shape and the strides of each."""
    made = Pickled()
    made.write(b"}(")
    for name, (offset, shape, strides) in views.items():
        made.text(name)
        made.name("torch._utils", "_rebuild_tensor_v2")
        made.write(b"((")
        made.text("storage")
        made.name("torch", kind)
        made.text("0")
        made.text("cuda:0")
        made.write(b"J", struct.pack("<i", count), b"tQJ", struct.pack("<i", offset))
        for numbers in (shape, strides):
            made.write(b"(", *(b"\x8a\x08" + struct.pack("<q", number) for number in numbers), b"t")
        made.write(b"\x89N" + b"tR")
    made.write(b"u.")
    return made.content.getvalue()


def test_a_big_endian_archive(tmp_path: Path) -> None:
    content, storages = state_pickle({"a": floats(5)})
    path = archive(tmp_path / "m.pt", content, [storage.astype(">f4") for storage in storages], byteorder=b"big")
    same(read_pytorch(path), {"a": floats(5)})


@pytest.mark.parametrize("keys", [("state_dict",), ("model_state_dict",), ("model",), ("model", "state_dict")])
def test_a_checkpoint(keys: tuple[str, ...], tmp_path: Path) -> None:
    """A state_dict beside an epoch, a loss and an optimizer's state."""
    inner, storages = state_pickle(STATE)
    content = inner[2:-1]
    for key in keys[::-1]:
        word = b"X" + struct.pack("<I", len(key)) + key.encode()
        content = b"}(X\x05\x00\x00\x00epochK\x03X\x04\x00\x00\x00lossG?\xe0\x00\x00\x00\x00\x00\x00" + word + content + b"u"
    same(read_pytorch(archive(tmp_path / "m.pt", b"\x80\x02" + content + b".", storages)), STATE)


def test_two_networks_in_one_file(tmp_path: Path) -> None:
    content = pickle.dumps({"model": {"a": 1}, "net": {"b": 2}}, 2)
    refused(archive(tmp_path / "m.pt", content, []), "several networks, model and net; save the state_dict of one")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_a_pickle_may_hold(protocol: int) -> None:
    value = {
        "a": [1, -2, 2**40, 1.5, None, True, ("x", (), [], {})],
        3: "\u00e9" * 300,
        "b": OrderedDict(c=1),
        "d": (1, 2, 3, 4),
    }
    assert Unpickler(pickle.dumps(value, protocol)).load() == value


# --- what is refused -----------------------------------------------------------------------------------------------------


class Bomb:
    """Ends the process if it is unpickled."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return self.made


BOMBS: dict[str, Any] = {
    "a function": Bomb((os._exit, (7,))),
    "eval": Bomb((eval, ("__import__('os')._exit(7)",))),
    "a class": Bomb((zipfile.ZipFile, ("x",))),
    "attributes": Bomb((OrderedDict, (), {"a": 1}, None, None)),
    "items": Bomb((OrderedDict, (), None, iter([Bomb((os._exit, (7,)))]))),
    "a class of the allowed module": Bomb((__import__("collections").ChainMap, ())),
    "an attribute of an allowed name": Bomb((getattr, (OrderedDict, "fromkeys"))),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", BOMBS)
def test_nothing_is_called(name: str, protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps({"a": BOMBS[name]}, protocol)
    refused(archive(tmp_path / "m.pt", content, []), "not only weights|no state_dict is found|what is no name")


def test_only_these_names_and_instructions() -> None:
    """Every instruction that Python's pickles have, except those of the table, is refused; so is every other name."""
    import pickletools

    names = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
    assert {names[code] for code in _INSTRUCTIONS} == {
        *("PROTO", "FRAME", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT"),
        *("MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
    }
    assert all(name.partition(".")[0] in ("torch", "collections") for name in _CALLS)
    for code in names.keys() - _INSTRUCTIONS.keys() - {b"."}:
        with pytest.raises(Exception, match="only tensors, containers, text and numbers are read"):
            Unpickler(b"\x80\x02" + code + bytes(20)).load()


STORAGE = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ."
RAW: dict[str, tuple[bytes, str]] = {
    "an extension": (b"\x80\x02\x82\x01.", "instruction 0x82"),
    "a persistent id of its own": (b"\x80\x02X\x01\x00\x00\x00aQ.", "a persistent id that is no storage"),
    "a storage of another module": (
        b"\x80\x02(X\x07\x00\x00\x00storagecos\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ.",
        "of type 'os.Float",
    ),
    "a call of a dict": (b"\x80\x02})R.", "a call of what is no name"),
    "a call without a tuple": (b"\x80\x02ccollections\nOrderedDict\nNR.", "a call of what is no name"),
    "a pair of three": (b"\x80\x02ccollections\nOrderedDict\n](K\x01K\x01K\x01\x87e\x85R.", "a damaged OrderedDict"),
    "attributes of a list": (b"\x80\x02]}b.", "sets attributes of other objects"),
    "a key that cannot be hashed": (b"\x80\x02}]Ns.", "keys are no text"),
    "a key whose hash takes for ever": (b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.", "keys are no text"),
    "an item of a tuple": (b"\x80\x02)Na.", "no list"),
    "a memo without an entry": (b"\x80\x02h\x09.", "takes what is not there"),
    "an empty stack": (b"\x80\x02R.", "takes what is not there"),
    "below the mark": (b"\x80\x02N(a.", "takes what is not there"),
    "no mark": (b"\x80\x02t.", "takes what is not there"),
    "two values": (b"\x80\x02NN.", "ends in between"),
    "no end": (b"\x80\x02N", "cut short"),
    "a text of 4 GB": (b"\x80\x02X\xff\xff\xff\xffa.", "cut short"),
    "a text of 2^64 bytes": (b"\x80\x04\x8d" + b"\xff" * 8 + b"a.", "cut short"),
    "a number of 255 bytes": (b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".", "more than 16 bytes"),
    "protocol 6": (b"\x80\x06N.", "unknown protocol"),
    "a name without an end": (b"\x80\x02cos\n" + b"a" * 5000, "a name without an end"),
    "millions of marks": (b"\x80\x02" + b"(" * 1_200_000, "more than 1,000,000 instructions"),
    "a list that holds itself": (b"\x80\x02]q\x00h\x00a.", "no state_dict is found, only a list"),
    "a dict that holds itself": (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "no state_dict is found"),
    "a tensor of a word": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NNNNt" + b"R.", "a tensor without a storage"),
    "a tensor of nothing": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "missing 4 required"),
    "a lone surrogate": (b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80Ns.", "no state_dict is found"),
}


@pytest.mark.parametrize("name", RAW)
def test_hostile_pickles(name: str, tmp_path: Path) -> None:
    content, pattern = RAW[name]
    refused(archive(tmp_path / "m.pt", content, []), pattern)


VIEWS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], str]] = {
    "an offset beyond": (12, (1,), (1,), "beyond its storage"),
    "an offset before": (-1, (1,), (1,), "a tensor without a storage"),
    "strides beyond": (0, (2, 3), (10, 2), "beyond its storage"),
    "negative strides": (11, (12,), (-1,), "a damaged shape"),
    "a negative size": (0, (-1,), (1,), "a damaged shape"),
    "a huge size": (0, (2**62 - 1, 2), (0, 0), "repeats its elements"),
    "repeated elements": (0, (4, 12), (0, 1), "repeats its elements"),
    "a size of 2^62": (0, (2**62,), (0,), "a damaged shape"),
    "fewer strides": (0, (1, 1), (1,), "a damaged shape"),
    "33 axes": (0, (1,) * 33, (1,) * 33, "a damaged shape"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_tensors_outside_their_storage(name: str, tmp_path: Path) -> None:
    *view, pattern = VIEWS[name]
    refused(archive(tmp_path / "m.pt", views_pickle({"a": tuple(view)}, 12), [floats(12)]), pattern)  # type: ignore[dict-item]


def test_storages_that_are_not_as_said(tmp_path: Path) -> None:
    path, one = tmp_path / "m.pt", {"a": (0, (12,), (1,))}
    refused(archive(path, views_pickle(one, 12), [floats(11)]), "11 elements of a storage of 12")
    refused(archive(path, views_pickle(one, 12), [floats(13)]), "13 elements of a storage of 12")
    refused(archive(path, views_pickle(one, 12), []), "an archive without 'archive/data/0'")
    refused(archive(path, views_pickle(one, 12), [np.zeros(49, np.uint8)]), "49 bytes of numbers of 4 bytes each")
    refused(
        archive(path, views_pickle(one, 12, "ComplexFloatStorage"), [floats(12)]), r"of type 'torch.Complex.*tensor.float\(\)"
    )
    two = views_pickle(one, 12)[:-2] + views_pickle({"b": (0, (6,), (1,))}, 6, "DoubleStorage")[4:]
    refused(archive(path, two, [floats(12)]), "a storage of two types or sizes")


def test_many_tensors_of_one_storage_take_its_memory_once(tmp_path: Path) -> None:
    read = read_pytorch(
        archive(tmp_path / "m.pt", views_pickle({f"a{n}": (0, (12,), (1,)) for n in range(500)}, 12), [floats(12)])
    )
    assert len(read) == 500 and all(np.shares_memory(array, read["a0"]) for array in read.values())


def test_archives_that_are_not_those_of_pytorch(tmp_path: Path) -> None:
    path, (content, storages) = tmp_path / "m.pt", state_pickle({"a": floats(4096) * 0})
    refused(archive(path, content, storages, compression=zipfile.ZIP_DEFLATED), "its members are compressed")
    refused(archive(path, content, [np.zeros(10_000_000)], compression=zipfile.ZIP_DEFLATED), "more than 20 times the file")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", content)
        file.writestr("b/data.pkl", content)
    refused(path, "an archive without data.pkl")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a/data.pkl", content)
    refused(path, "two members of one name")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", content)
        file.writestr("m/constants.pkl", content)
    refused(path, "a program of TorchScript")
    archive(path, content, storages)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "damaged, or not a file of torch.save")


def test_old_files_that_are_not_as_said(tmp_path: Path) -> None:
    path = save_old(tmp_path / "m.pt", STATE)
    good = path.read_bytes()
    for content, pattern in {
        good[:-1]: "a storage that is cut short",
        good.replace(b"little_endian\x88", b"little_endian\x89"): "not of a little-endian machine",
        good.replace(b"M\xe9\x03.", b"M\xea\x03."): "an unknown version",
        good[:40]: "cut short",
    }.items():
        path.write_bytes(content)
        refused(path, pattern)
    path.write_bytes(good.replace(b"X\x07\x00\x00\x00storage", b"X\x06\x00\x00\x00module"))
    refused(path, "holds an object of 'torch.FloatStorage', not only weights")


# --- the real PyTorch ----------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_the_files_of_these_tests_are_those_of_pytorch(torch: Any, tmp_path: Path) -> None:
    """The pickle is the same to the byte, and PyTorch reads the files."""
    state = {name: torch.from_numpy(array) for name, array in STATE.items()}
    torch.save(OrderedDict(state), tmp_path / "theirs.pt")
    with zipfile.ZipFile(tmp_path / "theirs.pt") as file:
        assert file.read("theirs/data.pkl") == state_pickle(STATE)[0]
    for write in (save, save_old):
        read = torch.load(write(tmp_path / "ours.pt", STATE), weights_only=True)
        same({name: tensor.numpy() for name, tensor in read.items()}, STATE)


@pytest.mark.oracle
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_what_pytorch_saves(torch: Any, new: bool, dtype: str, tmp_path: Path) -> None:
    """A state_dict, checkpoints with an optimizer and a schedule, parameters and views."""
    path, options = tmp_path / "m.pt", {"_use_new_zipfile_serialization": new}
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    net = net.to(getattr(torch, dtype))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(2, 1, 4, 4, dtype=getattr(torch, dtype))).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    state = net.state_dict()
    checkpoint = {"epoch": 3, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "loss": torch.tensor(0.5)}
    for saved in (state, checkpoint | {"state_dict": state}, {"model": {"model_state_dict": dict(state)}}):
        for protocol in (2, 4):
            torch.save(saved, path, pickle_protocol=protocol, **options)
            expected = {name: tensor.float() if dtype == "bfloat16" else tensor for name, tensor in state.items()}
            read = read_pytorch(path)
            assert [*read] == [*expected]
            for name, tensor in expected.items():
                assert np.array_equal(read[name], tensor.numpy().astype(read[name].dtype)) and read[name].shape == tensor.shape
    torch.save({"a": torch.arange(12.0).reshape(3, 4).t(), "b": torch.arange(12)[3:7]}, path, **options)
    read = read_pytorch(path)
    assert read["a"].tolist() == np.arange(12).reshape(3, 4).T.tolist() and read["b"].tolist() == [3, 4, 5, 6]


@pytest.mark.oracle
@pytest.mark.parametrize("new", [True, False])
def test_what_pytorch_saves_beside_weights(torch: Any, new: bool, tmp_path: Path) -> None:
    """A whole network and other objects are refused, each in a line that says to save the state_dict."""
    path, net = tmp_path / "m.pt", torch.nn.Sequential(torch.nn.Linear(2, 2))
    cure = r"torch.save\(model.state_dict\(\), FILE\) writes a file that is read"
    for saved in (
        net,
        {"model": net},
        {"a": np.float64(3)},
        [torch.zeros(1)],
        torch.zeros(3),
        {"a": torch.zeros(3).to_sparse()},
    ):
        torch.save(saved, path, _use_new_zipfile_serialization=new)
        refused(path, cure)
    torch.save({"a": torch.zeros(1).expand(5)}, path, _use_new_zipfile_serialization=new)
    refused(path, r"tensor.contiguous\(\)")
    if new:
        with pytest.warns(DeprecationWarning):
            torch.jit.save(torch.jit.script(net), path)
        refused(path, cure)
