"""Facts about this build and this machine, and the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from fastlenet import _core
from fastlenet.fields import Values

__all__ = ["THREADS", "Config", "config", "get_num_threads", "own_threads", "set_num_threads", "show_config"]

THREADS = Values(int, "an integer in 1..4096", 1, 4096)


class Config(TypedDict):
    """What config() returns, which explains it."""

    version: str
    level: str
    levels_built: list[str]
    levels_available: list[str]
    bf16: str
    bf16_available: list[str]
    amx: str
    int8: str
    int8_available: list[str]
    threads: int
    cuda: str
    compiler: str


def get_num_threads() -> int:
    """Returns the number of threads that the kernels use.

    Until you call set_num_threads, it is FASTLENET_NUM_THREADS, else OMP_NUM_THREADS, else the smaller of the CPU affinity mask
    and the cgroup's CPU quota.
    """
    return _core.get_num_threads()


def set_num_threads(count: int) -> None:
    """Use `count` threads, 1..4096, in the whole process. Results are the same to the bit for any number.

    While other processes want the CPUs, ops use fewer, since one thread that waits for a CPU would hold up all others.

    Raises TypeError or ValueError for another count.
    """
    _core.set_num_threads(THREADS.convert("set_num_threads: count", count))


_lock = threading.Lock()
_before: list[int] = []  # the number before the first of the contexts under way, once for each of them


@contextmanager
def own_threads(count: int) -> Iterator[None]:
    """A context in which the whole process uses `count` threads, 1..4096.

    Contexts of several Python threads may overlap. When the last one ends, the number is again what it was before the first.
    Raises as set_num_threads does.
    """
    with _lock:
        before = _before[0] if _before else get_num_threads()
        set_num_threads(count)
        _before.append(before)
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:
                set_num_threads(before)


def config() -> Config:
    """Returns what show_config() prints, as a dict.

    version: of fastlenet, str. level: the instruction-set level in use, str. levels_built: the levels in this build, list of
    str, best first. levels_available: those that this CPU supports. bf16: the instruction that multiplies bfloat16, or its
    emulation, str; "not used yet" until a model asks for it. bf16_available: those that this CPU can use, list of str, best
    first. amx: whether the kernel lets the process use AMX's tiles, and how many blocks were computed again because their tiles
    were lost, str. int8: the instruction that multiplies int8, or its emulation, str; all give the same bits. int8_available:
    those that this CPU can use, list of str, best first. threads: int. cuda: the state of the CUDA backend, str. compiler: str.
    """
    return {
        "version": _core.version(),
        "level": _core.level(),
        "levels_built": _core.levels_built(),
        "levels_available": _core.levels_available(),
        "bf16": _core.unit_in_use() or "not used yet",
        "bf16_available": _core.units_available(),
        "amx": _amx(),
        "int8": _core.int8_unit(),
        "int8_available": _core.int8_units_available(),
        "threads": get_num_threads(),
        "cuda": _core.cuda_status(),
        "compiler": _core.compiler(),
    }


def _amx() -> str:
    state, repeats = _core.amx_state(), _core.tile_repeats()
    return f"{state}; loses tiles: {repeats:,} blocks were computed again" if repeats and state == "granted" else state


def show_config() -> None:
    """Print the version, the instruction-set levels (in use, built, available), the instructions of bfloat16 and
    int8, AMX, the threads, CUDA and the compiler.
    """
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key.replace('_', ' '):<17}{text}")
