"""Fuzzes one reader by atheris (libFuzzer), in this process: python fuzz_reader.py READER [LIBFUZZER'S OPTIONS AND FOLDERS].

An input is laid in a file in memory (/dev/shm). A finding is an error that the reader does not document, a warning, a run of
more than 20 s, or more memory than the reader's multiple of the file. tools/fuzz runs this program.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError as error:
    python = f"{sys.implementation.name} {sys.version.split()[0]}"
    sys.exit(f"FAILED: no atheris for {python} ({error}); pip install atheris, or take another interpreter")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
with atheris.instrument_imports(include=["fastlenet"]):
    from fuzzing.readers import READERS, FindingError, judge


class Memory:
    """The most memory that the process held since the last look, in bytes."""

    def __init__(self) -> None:
        self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def peak(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    def reset(self) -> int:
        """Forget the peak. Returns what is held now."""
        os.pwrite(self._reset, b"5", 0)
        return self.peak()


def main() -> None:
    name, *options = sys.argv[1:]
    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fastlenet-fuzz-{name}-", dir="/dev/shm"))
    child = os.fork()
    if child:  # which stays to clean up, for libFuzzer ends the process
        _, status = os.waitpid(child, 0)
        shutil.rmtree(folder)
        sys.exit(os.waitstatus_to_exitcode(status))
    path = folder / reader.file
    path.parent.mkdir(exist_ok=True)
    file = path.open("w+b", buffering=0)
    memory, most = Memory(), [0]
    os.fsync = lambda descriptor: None  # files in memory need none

    def lay(data: bytes) -> None:
        file.seek(0)
        file.write(data)
        file.truncate()

    def judged(data: bytes) -> None:
        lay(data)
        before = memory.reset()
        try:
            judge(reader, path)
        except MemoryError:
            raise FindingError("MemoryError") from None
        taken = memory.peak() - before
        if taken > most[0]:  # at once, for libFuzzer ends the process
            most[0] = taken
            print(f"most memory of an input: {taken:,} bytes", flush=True)
        if taken > reader.least + reader.times * len(data):
            raise FindingError(f"{taken:,} bytes of memory for a file of {len(data):,}")

    def changed(data: bytes, max_size: int, seed: int) -> bytes:
        draw = random.Random(seed)

        def change(part: bytes) -> bytes:
            return atheris.Mutate(part, max(len(part) + 64, 64)) if part else bytes([draw.randrange(256)])

        assert reader.mutate is not None
        made = reader.mutate(data, change, draw)
        return made if len(made) <= max_size else atheris.Mutate(data, max_size)

    for seed in sorted((Path(__file__).parent / "corpus" / name).iterdir()):
        lay(seed.read_bytes())
        judge(reader, path)  # imports and tables, once, before memory counts
    own = [f"-max_len={reader.longest}", "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-len_control=20"]
    extra = {"custom_mutator": changed} if reader.mutate else {}
    atheris.Setup([sys.argv[0], *own, *options], judged, **extra)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
