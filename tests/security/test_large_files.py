"""The memory that reading a large file takes, as a multiple of the file: of 20 MB, or of FASTLENET_LARGE_FILES MB."""

from __future__ import annotations

import gzip
import io
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastlenet import nn
from helpers import torch_files

pytestmark = pytest.mark.slow

SIZE = int(os.environ.get("FASTLENET_LARGE_FILES", "20")) * 10**6
LEAST = 8 << 20  # bytes that a file of any size may take

READ = """
import sys
import numpy, zipfile, zlib, fastlenet
from fastlenet.data.idx import read_idx
from fastlenet.models.loading import read_model
from fastlenet import nn

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

kind, path, width = sys.argv[1], sys.argv[2], int(sys.argv[3])
network = nn.Sequential(nn.Flatten(), nn.Linear(width, width)) if kind in ("npz", "pytorch") else None
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forgets the peak
before = peak()
kept = read_idx(path, 3) if kind.startswith("idx") else read_model(path, network=network)
print(peak() - before)
"""


def width(bytes_of_a_weight: int) -> int:
    """The inputs and outputs of a layer that fills the file."""
    return math.isqrt(SIZE // bytes_of_a_weight) + 1


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(width(4), width(4)))


def idx(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, SIZE // 784 * 784, np.uint8)
    path.write_bytes(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (len(pixels) // 784, 28, 28)))
    with path.open("ab") as file:
        file.write(pixels.tobytes())


def idx_gzip(path: Path) -> None:
    """Noise, which gzip leaves as long as it is: a file of many zeros has less than its data, whatever reads it."""
    made = io.BytesIO()
    idx(path)
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1, mtime=0) as file:
        file.write(path.read_bytes())
    path.write_bytes(made.getvalue())


def npz(path: Path) -> None:
    np.savez(path, **network().state_dict())


def pytorch(path: Path) -> None:
    torch_files.save(path, network().state_dict())


def quantized(path: Path) -> None:
    made = nn.Sequential(nn.Flatten(), nn.Linear(width(1), width(1)))
    made.set_facts(input_shape=(1, 1, width(1)), mean=0.5, std=0.25)
    made.eval().quantize(np.random.default_rng(0).integers(0, 256, (2, 1, width(1)), np.uint8)).save(path)


# The writer, the file's name, and the multiple.
KINDS: dict[str, tuple[Callable[[Path], object], str, float]] = {
    "idx": (idx, "images", 1.1),
    "idx_gzip": (idx_gzip, "images.gz", 1.1),
    "model": (lambda path: network().save(path), "model.safetensors", 4.5),
    "quantized": (quantized, "int8.safetensors", 5.5),
    "pytorch": (pytorch, "model.pt", 1.5),
    "npz": (npz, "model.npz", 1.5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_for_a_large_file(kind: str, tmp_path: Path) -> None:
    write, name, times = KINDS[kind]
    write(tmp_path / name)
    size = (tmp_path / name).stat().st_size
    assert size >= SIZE // 784 * 784
    command = [sys.executable, "-c", READ, kind, str(tmp_path / name), str(width(4))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    taken = int(done.stdout)
    print(f"{kind}: {taken / size:.2f} times a file of {size:,} bytes")
    assert taken <= LEAST + times * size
