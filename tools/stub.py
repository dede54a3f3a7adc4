"""Generate python/fastlenet/_core.pyi from the installed extension. --check compares instead, and fails if they differ.

python tools/stub.py [--check]
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "python" / "fastlenet" / "_core.pyi"


def generate() -> str:
    """The stub of pybind11-stubgen, with the bare generics spelt out that mypy --strict refuses, and formatted."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pybind11_stubgen", "fastlenet._core", "-o", folder, "--exit-code"]
        subprocess.run(command, check=True, cwd=folder, stderr=subprocess.DEVNULL)
        text = (Path(folder) / "fastlenet" / "_core.pyi").read_text()
    text = text.replace("-> tuple:", "-> tuple[typing.Any, ...]:")
    text = text.replace("-> numpy.ndarray:", "-> numpy.typing.NDArray[typing.Any]:")
    text = text.replace("import numpy\n", "import numpy.typing\n")
    text = text.replace("*args)", "*args: typing.Any)")
    text = text.replace("collections.abc.Callable,", "collections.abc.Callable[..., typing.Any],")
    text = re.sub(r"typing\.SupportsInt \| typing\.SupportsIndex", "typing.SupportsInt", text)
    text = re.sub(r"typing\.SupportsFloat \| typing\.SupportsIndex", "typing.SupportsFloat", text)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--config",
        str(ROOT / "pyproject.toml"),
        "--stdin-filename",
        str(STUB),
        "-",
    ]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def main() -> int:
    text = generate()
    if "--check" not in sys.argv[1:]:
        STUB.write_text(text)
        return 0
    difference = list(difflib.unified_diff(STUB.read_text().splitlines(), text.splitlines(), "committed", "generated"))
    print("\n".join(difference) or "_core.pyi is up to date")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
