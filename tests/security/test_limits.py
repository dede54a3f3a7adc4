"""SECURITY.md states limits: each number in its table is the code's constant, or the fuzzer's limit of the reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastlenet.data import reading
from fastlenet.distributed.searches import space
from fastlenet.formats import archives, caffe, hdf5, keras, onnx, opening, protobuf, tensor_file, unpickling
from fastlenet.nn import description
from fastlenet.quantization import loading
from fuzzing.readers import READERS

WORDS = {3: "three", 5: "five", 6: "six"}

# A word of the row's first cell, and the parts of its last one that have numbers, in order.
LIMITS: dict[str, list[str]] = {
    "IDX data sets": [f"at most {reading.MAX_BYTES >> 20} MiB"],
    "models and training states": [
        f"a header of at most {tensor_file._MAX_HEADER >> 20} MiB",
        f"at most {opening.MAX_BYTES >> 30} GiB of tensors",
        f"at most {description._MOST_LAYERS:,} layers",
    ],
    "weights of PyTorch": [
        f"knows {len(unpickling._INSTRUCTIONS)} instructions and {WORDS[len(unpickling._CALLS)]} names",
        f"at most {WORDS[READERS['pytorch'].times]} times the file in memory",
    ],
    "files of Keras": [
        f"ended after {hdf5._SECONDS} s of computing, {keras._SECONDS} s in all, and one more for each MiB",
        f"at {hdf5._SPACE_TIMES} times the file and {hdf5._SPACE >> 30} GiB of address space",
        f"arrays may come to {hdf5._LEAST >> 20} MiB, or to {hdf5._TIMES} times the file",
    ],
    "networks of Caffe": [
        f"at most {protobuf.Budget().fields:,} fields, {onnx._MOST_NODES:,} nodes and {caffe._MOST_LAYERS:,} layers",
        f"at most {WORDS[READERS['onnx'].times]} times the file in memory",
    ],
    "weights of NumPy": [f"members may decompress to {archives._LEAST >> 20} MiB, or to {archives._TIMES} times the file"],
    "files of finished runs": [f"at most {WORDS[READERS['results'].times]} times the file in memory"],
    "spaces of": [f"at most {space._MOST:,} trials"],
    "pictures": [f"at most {reading._PIXELS // 10**6} million pixels, or {reading._TIMES} for each byte of the file"],
    "torchvision data sets": [],
    "arrays given to": [],
}


PAGE = Path(__file__).parents[2] / "SECURITY.md"


@pytest.fixture
def rows() -> dict[str, str]:
    """The limits in SECURITY.md by the input."""
    text = PAGE.read_text().partition("| input |")[2].partition("\n\n")[0]
    cells = [line.strip("|").split(" | ") for line in text.splitlines()[2:]]
    return {cell[0].strip(): cell[-1].strip() for cell in cells}


def test_each_limit_is_the_constant_of_the_code(rows: dict[str, str]) -> None:
    assert len(rows) == len(LIMITS)
    for start, parts in LIMITS.items():
        [limits] = [text for name, text in rows.items() if name.startswith(start)]
        for part in parts:
            assert part in limits, (start, part)
            limits = limits.replace(part, "")
        found = re.findall(rf"(?<![A-Za-z0-9])[0-9]+|\b(?:{'|'.join(WORDS.values())})\b", limits)
        assert not found, f"{start}: the numbers {found} are compared with nothing"


def test_those_of_equal_names_are_equal() -> None:
    assert READERS["caffe"].times == READERS["onnx"].times == READERS["pytorch"].times
    assert loading._MOST_LAYERS == description._MOST_LAYERS
    assert {READERS[name].times for name in ("model", "quantized", "state")} == {70}
