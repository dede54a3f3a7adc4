"""Remove each barrier from the kernels in turn. The tests on the emulated GPU must fail each time.

python tools/mutate_barriers.py FOLDER [FILE ...]      in an environment that has the package's test extra and pybind11

FOLDER gets a copy of the sources, which is built once; then one file is compiled again for each barrier.
FILE: only the barriers of these.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Which tests concern a file's kernels: of their names, in test_exact.py and among the thread orders of test_cuda.py.
TESTS = {
    "conv_pool.cu": "conv2d_relu_max_pool2d",
    "conv_pool_backward.cu": "conv2d_relu_max_pool2d",
    "pool.cu": "max_pool2d and not conv2d",
    "linear.cu": "linear",
    "loss.cu": "softmax_cross_entropy or squared_error",
    "gather.cu": "gather",
}
BARRIER = re.compile(r"^\s*__syncthreads\(\);$", re.MULTILINE)


def build(folder: Path) -> None:
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DFASTLENET_CUDA=EMULATION", f"-DPython_EXECUTABLE={sys.executable}"]
    commands = [["cmake", "-S", str(folder / "source"), "-B", str(folder / "build"), *options]]
    commands.append(["cmake", "--build", str(folder / "build"), "-j", str(os.cpu_count())])
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"FAILED: {' '.join(command)}\n{result.stdout}{result.stderr}")
    for extension in (folder / "build").glob("_core*.so"):
        shutil.copy(extension, folder / "source" / "python" / "fastlenet")


def passes(folder: Path, names: str) -> bool:
    """Whether the tests of these names pass; a kernel that stops the emulation fails them too."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "cuda and not slow", "-k", names]
    environment = os.environ | {"PYTHONPATH": str(folder / "source" / "python")}
    files = ["cuda/test_cuda.py", "ops/test_exact.py"]
    code = subprocess.run([*command, *files], cwd=ROOT / "tests", env=environment, capture_output=True).returncode
    if code not in (0, 1, -6, 134):  # passed, failed, aborted
        sys.exit(f"FAILED: pytest -k '{names}' ended with {code}")
    return code == 0


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    (folder / "source").mkdir(parents=True)
    for name in ("CMakeLists.txt", "pyproject.toml", "cpp", "cuda", "python"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "source" / name)
    build(folder)
    sources = sorted((folder / "source" / "cuda").glob("*.cu"))
    sources = [source for source in sources if not sys.argv[2:] or source.name in sys.argv[2:]]
    barriers = [(source, match) for source in sources for match in BARRIER.finditer(source.read_text())]
    # Every barrier is one that this finds, and every file with one has its tests.
    assert len(barriers) == sum(source.read_text().count("__syncthreads") for source in sources)
    for names in sorted({TESTS[source.name] for source, _ in barriers}):
        if not passes(folder, names):
            sys.exit(f"FAILED: the tests '{names}' fail with all barriers in place")
    missed = []
    for source, match in barriers:
        text = source.read_text()
        source.write_text(text[: match.start()] + "\n" + text[match.end() :])
        build(folder)
        place = f"cuda/{source.name}:{text[: match.end()].count(chr(10)) + 1}"
        noticed = not passes(folder, TESTS[source.name])
        print(f"{place}: {'noticed' if noticed else 'MISSED'}", flush=True)
        missed += [] if noticed else [place]
        source.write_text(text)
    if missed:
        sys.exit(f"FAILED: no test noticed that these barriers were gone: {', '.join(missed)}")
    print(f"each of {len(barriers)} barriers is needed, and the tests notice when it is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
