"""Sub-processes by fork, spawn and forkserver, while other threads compute; and what computes while the interpreter ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A program of its own each time, as spawn and forkserver import it anew. Its child processes compute what it computed itself.
_PROGRAM = """
import multiprocessing, sys, threading
import numpy as np
from fastlenet import LeNet, ops, set_num_threads

x = np.arange(64 * 3 * 144, dtype=np.float32).reshape(64, 3, 12, 12) % 7
weight = np.arange(8 * 75, dtype=np.float32).reshape(8, 3, 5, 5) % 5
images = np.arange(20 * 784, dtype=np.float32).reshape(20, 1, 28, 28) % 3

def compute(threads):
    set_num_threads(threads)
    model = LeNet(seed=1)
    y = model(images)
    model.backward(y)
    return ops.conv2d_forward(x, weight).tobytes() + y.tobytes() + model.gradient_buffer.tobytes()

def compare(right, threads):
    for _ in range(3):
        if compute(threads) != right: sys.exit(3)

def start(method, right):
    context = multiprocessing.get_context(method)
    children = [context.Process(target=compare, args=(right, threads)) for threads in (3,)]
    for child in children: child.start()
    for child in children: child.join(40)
    codes.extend(child.exitcode for child in children)
    with context.Pool(2) as pool:
        codes.extend(0 if bits == right else 4 for bits in pool.map(compute, [2, 3]))

codes = []

def main(method, where):
    right, over = compute(2), threading.Event()
    def serve():
        while not over.is_set(): ops.conv2d_forward(x, weight)
    def change():
        while not over.is_set(): [set_num_threads(n) for n in (1, 2, 3)]
    beside = [threading.Thread(target=work) for work in (serve, serve, change)]
    for thread in beside: thread.start()
    if where == "thread":
        starter = threading.Thread(target=start, args=(method, right))
        starter.start()
        starter.join()
    else:
        start(method, right)
    over.set()
    for thread in beside: thread.join()
    assert compute(2) == right
    print(codes)

if __name__ == "__main__": main(*sys.argv[1:])
"""


@pytest.mark.parametrize("where", ["thread", pytest.param("main", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("spawn", "forkserver"))])
def test_children_compute_the_same(method: str, where: str, tmp_path: Path) -> None:
    """Each child process, started while two threads compute and one changes the number of threads, has the parent's bits."""
    program = tmp_path / "parent.py"
    program.write_text(_PROGRAM)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(program), method, where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0, 0]\n", "")


_ENDINGS = {
    "atexit": """
import atexit
atexit.register(lambda: print(work()))
""",
    "a thread that is no daemon": """
import threading, time
def late():
    time.sleep(0.2)
    print(work())
threading.Thread(target=late).start()
""",
    "a finaliser": """
class Last:
    def __del__(self): print(work())
last = Last()
""",
    "an error": """
print(work())
raise SystemExit(7)
""",
    "a child that was forked, in atexit": """
import atexit, os, warnings
def fork():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer warn of any fork beside threads
    try:
        child = os.fork()
    except RuntimeError as error:  # Python 3.12 forks no more then
        assert str(error) == "can't fork at interpreter shutdown"
        print(right)
        return
    if child == 0:
        same = work() == right
        os._exit(0 if same else 3)
    print(right if os.waitpid(child, 0)[1] == 0 else "no")
right = work()
atexit.register(fork)
""",
    "while a daemon computes": """
import atexit, threading
def serve():
    while True: work()
threading.Thread(target=serve, daemon=True).start()
atexit.register(lambda: print(work()))
""",
}


@pytest.mark.parametrize("ending", _ENDINGS)
def test_the_pool_at_the_interpreters_exit(ending: str) -> None:
    """It still computes there, with three threads; then the program ends, with its own exit code and nothing said."""
    start = """
import numpy as np
from fastlenet import ops, set_num_threads
set_num_threads(3)
x, weight = np.ones((64, 3, 12, 12), np.float32), np.ones((8, 3, 5, 5), np.float32)
def work(): return float(ops.conv2d_forward(x, weight).min())
work()
"""
    done = subprocess.run([sys.executable, "-c", start + _ENDINGS[ending]], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7 if ending == "an error" else 0, "75.0\n", "")
