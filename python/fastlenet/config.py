"""What this build is and what it runs on."""

from __future__ import annotations

from typing import Any

from fastlenet import _core
from fastlenet.fields import integer

__all__ = ["config", "get_num_threads", "set_num_threads", "show_config"]


def get_num_threads() -> int:
    """The number of threads that the kernels use.

    Until set_num_threads: FASTLENET_NUM_THREADS, else OMP_NUM_THREADS, else the smaller of the CPU affinity mask and
    the cgroup's CPU quota.
    """
    return _core.get_num_threads()


def set_num_threads(count: int) -> None:
    """Use `count` threads, 1..4096, in the whole process. Results do not depend on it, to the bit."""
    _core.set_num_threads(integer("set_num_threads: count", count, 1, 4096))


def config() -> dict[str, Any]:
    """The facts that show_config() prints."""
    return {
        "version": _core.version(),
        "level": _core.level(),
        "levels_built": _core.levels_built(),
        "levels_available": _core.levels_available(),
        "threads": get_num_threads(),
        "cuda": _core.cuda_status(),
        "compiler": _core.compiler(),
    }


def show_config() -> None:
    """Print the version, the kernel levels built, available and chosen, the threads, CUDA and the compiler."""
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key.replace('_', ' '):<17}{text}")
