"""Threads in the company they keep: fork, many Python threads, torch, affinity, environment variables, cgroup quotas."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, get_num_threads, ops, set_num_threads
from helpers.arrays import normals

Rng = np.random.Generator


def run_python(code: str, **environment: str) -> str:
    """The output of a fresh interpreter, whose thread settings are those given and no others."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("FASTLENET_NUM_THREADS", "OMP_NUM_THREADS")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


COUNT = "import fastlenet; print(fastlenet.get_num_threads())"


@pytest.mark.slow
def test_environment_variables() -> None:
    known = [({"FASTLENET_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"), ({"OMP_NUM_THREADS": "5"}, "5")]
    known += [({"OMP_NUM_THREADS": "4,2"}, "4")]
    nonsense = [{"FASTLENET_NUM_THREADS": word} for word in ("0", "-1", "many", "", "3x")]
    with ThreadPoolExecutor() as pool:
        default, *counts = pool.map(lambda names: run_python(COUNT, **names), [{}, *(names for names, _ in known), *nonsense])
    assert counts == [*(count for _, count in known), *([default] * len(nonsense))]


def test_affinity() -> None:
    code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {COUNT}"
    assert run_python(code) == "1"
    assert 1 <= int(run_python(COUNT)) <= len(os.sched_getaffinity(0))


GROUPS2 = "0::/user/job\n"
GROUPS1 = "12:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n"


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "250000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 0),
        (GROUPS2, {"user/job/cpu.max": "max 100000", "user/cpu.max": "300000 100000", "cpu.max": "800000 100000"}, 3),
        (GROUPS2, {"user/job/cpu.max": "200000 50000", "user/cpu.max": "max 100000"}, 4),
        (GROUPS1, {"cpu,cpuacct/docker/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000"}, 4),
        (GROUPS1, {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 3),
        (GROUPS1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0),
        ("", {}, 0),
        ("rubbish\n0::\n", {"cpu.max": "rubbish"}, 0),
    ],
)
def test_cgroup_quota(groups: str, files: dict[str, str], cpus: int, tmp_path: Path) -> None:
    """Version 2 and version 1, of the group itself and of those around it; inside a container only the latter are seen."""
    for name, text in [("proc/self/cgroup", groups), *((f"sys/fs/cgroup/{name}", text) for name, text in files.items())]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _core.cgroup_cpus(str(tmp_path)) == cpus


def test_no_more_threads_than_the_cgroup_grants() -> None:
    quota = _core.cgroup_cpus("")
    assert quota == 0 or int(run_python(COUNT)) <= quota


def test_threads_that_cannot_be_started() -> None:
    """Where the system grants no more threads, those that there are do the work, and no signal stays blocked."""
    code = """
import os, resource, signal, threading
import numpy as np
from fastlenet import ops, set_num_threads
set_num_threads(4)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.geteuid() == 0: os.setuid(65534)  # root has no limit
try: threading.Thread(target=print).start()
except RuntimeError: print("no threads")
x = np.ones((64, 3, 12, 12), np.float32); weight = np.ones((8, 3, 5, 5), np.float32)
for _ in range(3): assert (ops.conv2d_forward(x, weight) == 75).all()
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    assert run_python(code) == "no threads\nset()"


def test_set_num_threads() -> None:
    before = get_num_threads()
    for count in (1, 5):
        set_num_threads(count)
        assert get_num_threads() == count
    for wrong in (0, -1, 5000):
        with pytest.raises(ValueError, match=r"count expects an integer in 1\.\.4096"):
            set_num_threads(wrong)
    set_num_threads(before)


def test_no_threads_at_import() -> None:
    assert run_python("import fastlenet, threading, os; print(len(os.listdir('/proc/self/task')))", OMP_NUM_THREADS="1") == (
        run_python("import numpy, os; print(len(os.listdir('/proc/self/task')))", OMP_NUM_THREADS="1")
    )


def test_fork(rng: Rng) -> None:
    """A child forked after the pool has started computes the same, with threads of its own, and does not hang."""
    before = get_num_threads()
    set_num_threads(2)
    x, weight = normals(rng, (64, 3, 12, 12)), normals(rng, (8, 3, 5, 5))
    y = ops.conv2d_forward(x, weight)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(20)
        same = all(ops.conv2d_forward(x, weight).tobytes() == y.tobytes() for _ in range(20))
        os.write(write, b"same" if same else b"different")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == b"same"
    assert os.waitpid(child, 0)[1] == 0
    assert ops.conv2d_forward(x, weight).tobytes() == y.tobytes()
    set_num_threads(before)


def test_multiprocessing_fork_pool() -> None:
    code = """
import multiprocessing, warnings, numpy as np
from fastlenet import ops, set_num_threads
set_num_threads(2)
x = np.ones((64, 3, 12, 12), np.float32); weight = np.ones((8, 3, 5, 5), np.float32)
ops.conv2d_forward(x, weight)
def work(i): return float(ops.conv2d_forward(x * i, weight).sum())
with multiprocessing.get_context("fork").Pool(3) as pool:
    print([round(v / 64 / 8 / 64 / 75) for v in pool.map(work, range(6))])
"""
    assert run_python(code) == "[0, 1, 2, 3, 4, 5]"


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize("order", ["import torch, fastlenet", "import fastlenet, torch"])
def test_beside_torch(order: str, torch: Any) -> None:
    code = f"""
{order}
import numpy as np
from fastlenet import ops
x = np.random.default_rng(0).standard_normal((64, 20, 12, 12), dtype=np.float32)
weight = np.random.default_rng(1).standard_normal((50, 20, 5, 5), dtype=np.float32)
for _ in range(20):
    ours = ops.conv2d_forward(x, weight)
    theirs = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight)).numpy()
print(bool(np.abs(ours - theirs).max() < 1e-3))
"""
    assert run_python(code) == "True"


def test_without_dx_the_gradients_of_a_linear_layer_need_one_barrier() -> None:
    """They come in two halves of the outputs only where dx reads the weights as well."""
    dy, x, weight = np.zeros((16, 500), np.float32), np.ones((16, 800), np.float32), np.ones((500, 800), np.float32)
    before = get_num_threads()
    try:
        set_num_threads(3)
        barriers = _core.barriers()
        ops.linear_backward(dy, x, weight, need_dx=False)
        assert _core.barriers() == barriers + 1
    finally:
        set_num_threads(before)
