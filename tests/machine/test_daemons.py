"""A program that ends while daemon threads compute ends with its own exit code: none of them ends it by a signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

_PROGRAM = """
import threading, time
import numpy as np
from fastlenet import LeNet, cuda, fit, ops
from fastlenet.data import Dataset

ones = lambda *shape: np.ones(shape, np.float32)
computing = threading.Barrier(5, timeout=30)

def serve(work):
    work()
    computing.wait()
    while True: work()

{work}

for _ in range(4): threading.Thread(target=serve, args=(work,), daemon=True).start()
computing.wait()
time.sleep(0.1)
raise SystemExit(7)
"""

_WORK = {
    "an op": "work = lambda: ops.conv2d_forward(ones(64, 3, 12, 12), ones(8, 3, 5, 5))",
    "strided arrays": "work = lambda x=ones(64, 3, 12, 24): ops.conv2d_forward(x[..., ::2], ones(8, 3, 5, 5))",
    "a model in evaluation": "work = lambda model=LeNet().eval(): model(ones(16, 1, 28, 28))",
    "a frozen model": "work = lambda model=LeNet().freeze(): model(ones(1, 1, 28, 28))",
    "capture": """
x, slowly = ones(1, 4), lambda x: (time.sleep(0.00005), ops.relu_forward(x))[1]
work = lambda: [ops.Graph(slowly, x) for _ in range(20)]
""",
    "fit": """
images, labels = np.zeros((64, 28, 28), np.uint8), np.zeros(64, np.uint8)
data = Dataset("black", images, labels, images, labels, 10, 0.1, 0.3)
work = lambda: fit(LeNet(), data, epochs=1)
""",
}
_CUDA_WORK = {
    "reading": "work = lambda: cuda.relu_forward(ones(1 << 16)).numpy()",
    "synchronize": "work = lambda: (cuda.relu_forward(ones(1 << 10)), cuda.synchronize())",
}


def _endings(works: Iterable[str]) -> list[tuple[int, str]]:
    """What becomes of programs that end while their daemon threads do such work: exit code and standard error."""
    commands = [[sys.executable, "-c", _PROGRAM.replace("{work}", work)] for work in works]
    programs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [program.communicate(timeout=60)[1] for program in programs]
    return [(program.returncode, error) for program, error in zip(programs, errors, strict=True)]


@pytest.mark.slow
def test_the_exit_code_is_the_programs_own() -> None:
    endings = dict(zip(_WORK, _endings(_WORK.values()), strict=True))
    assert endings == dict.fromkeys(_WORK, (7, ""))


@pytest.mark.slow
@pytest.mark.parametrize("name", _WORK)
def test_the_exit_code_is_the_programs_own_every_time(name: str) -> None:
    for _ in range(10):
        assert _endings([_WORK[name]] * 2) == [(7, "")] * 2


@pytest.mark.cuda
@pytest.mark.parametrize("name", _CUDA_WORK)
def test_the_exit_code_beside_a_gpu_is_the_programs_own(name: str) -> None:
    for _ in range(3):
        assert _endings([_CUDA_WORK[name]] * 2) == [(7, "")] * 2
