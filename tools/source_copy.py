"""A copy of the sources for tools/mutate.py, in which a fault is planted, built and tested."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fault_tables import ROOT, Fault, read_toml


def _default_marks() -> str:
    """Which tests `pytest` alone runs, as pyproject.toml says it."""
    options = read_toml(ROOT / "pyproject.toml")["tool"]["pytest"]["ini_options"]["addopts"]
    return str(options[options.index("-m") + 1])


class Copy:
    """A copy of the sources, its builds, and its tests."""

    def __init__(self, folder: Path, limit: float, extension: Path | None) -> None:
        self.folder, self.source, self._limit, self._extension = folder, folder / "source", limit, extension
        self._runs = 0
        self.state = self._copy()

    def _copy(self) -> str:
        """Copy tracked and new files. Unchanged files keep their times, so that only changed ones are compiled.

        Returns a digest of the files that decide what the tests find.
        """
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        wanted = {name for name in names if name and (ROOT / name).is_file()}
        if self.source.exists():
            for path in [path for path in self.source.rglob("*") if path.is_file()]:
                if str(path.relative_to(self.source)) not in wanted:
                    path.unlink()
        digest = hashlib.sha256()
        for name in sorted(wanted):
            if name.startswith(("cpp/", "cuda/", "python/", "tests/")) or name == "CMakeLists.txt":
                digest.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
            to = self.source / name
            if not to.exists() or to.read_bytes() != (ROOT / name).read_bytes():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, to)
        return digest.hexdigest()[:16]

    @contextlib.contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        path = self.source / fault.file
        before, after = path.read_text(), fault.planted(self.source)
        path.write_text(after)
        try:
            yield
        finally:
            path.write_text(before)

    def build(self, on_gpu: bool, compiled: bool = True) -> str:
        """Compile what has changed and install the build. Returns the compiler's error, if any.

        compiled: whether the fault is in a file that is compiled; else the extension that was given is used.
        """
        package = self.source / "python" / "fastlenet"
        if self._extension is not None and not compiled and not on_gpu:
            for old in package.glob("_core*.so"):
                old.unlink()
            shutil.copy(self._extension, package)
            return ""
        build = self.folder / ("cuda" if on_gpu else "cpu")
        if not (build / "CMakeCache.txt").exists():
            options = ["-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"]
            options += ["-DFASTLENET_CUDA=EMULATION"] if on_gpu else []
            options += ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
            options += ["-G", "Ninja"] if shutil.which("ninja") else []
            configured = subprocess.run(["cmake", "-S", self.source, "-B", build, *options], capture_output=True, text=True)
            if configured.returncode:
                shutil.rmtree(build)
                sys.exit(f"FAILED: cmake\n{configured.stdout}{configured.stderr}")
        jobs = str(len(os.sched_getaffinity(0)))
        done = subprocess.run(["cmake", "--build", build, "-j", jobs], capture_output=True, text=True)
        if done.returncode:
            return done.stdout + done.stderr
        for old in package.glob("_core*.so"):
            old.unlink()
        for extension in build.glob("_core*.so"):
            shutil.copy(extension, package)
        return ""

    def _ended(self, process: subprocess.Popen[bytes], log: Path) -> int | None:
        """The tests' exit code, or None if they print nothing for longer than the limit."""
        size, since = 0, time.monotonic()
        while time.monotonic() - since < self._limit:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(1)
            if log.stat().st_size != size:
                size, since = log.stat().st_size, time.monotonic()
        return None

    def confirmed_failure(self, tests: list[str], on_gpu: bool) -> str | None:
        """As first_failure, but only for a test that fails again when run alone, since tests may fail on a busy machine."""
        passed_alone: list[str] = []
        while failed := self.first_failure([*tests, *(f"--deselect=tests/{name}" for name in passed_alone)], on_gpu):
            name = bare(failed)
            if self.first_failure([name], on_gpu):
                return failed
            print(f"            {name} failed, but not once more", flush=True)
            passed_alone.append(name)
        return None

    def first_failure(self, tests: list[str], on_gpu: bool) -> str | None:
        """The first test that fails, crashes or hangs, or None if all pass. tests: files, folders or names of tests."""
        if not tests:
            return None
        # Those of `pytest` alone, without the tests against PyTorch, which is not everywhere.
        marks = "not slow and not oracle and cuda" if on_gpu else f"{_default_marks()} and not oracle"
        self._runs += 1
        compiled = self.folder / "pycache" / str(self._runs)  # new, so that no bytecode without the fault is used
        environment = os.environ | {
            "PYTHONPATH": str(self.source / "python"),
            "PYTHONPYCACHEPREFIX": str(compiled),
            "PYTHONUNBUFFERED": "1",
        }
        log = self.folder / "tests.log"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-x",
            "-rfE",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-m",
            marks,
            *tests,
        ]
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=self.source / "tests",
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code = self._ended(process, log)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(compiled, ignore_errors=True)
        if code in (0, 5):  # 5: no test has the marks
            return None
        text = log.read_text(errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", text, re.MULTILINE)
        if code == 1 and failed:
            return failed[1]
        if code is None or code < 0 or code > 5:
            started = re.findall(r"^(\S+\.py::.+?) *(?:PASSED|$)", text, re.MULTILINE)
            return f"{started[-1] if started else tests[0]} ({'hangs' if code is None else 'crashes'})"
        if failed:  # during collection
            return f"{failed[1]} (cannot be collected)"
        sys.exit(f"FAILED: pytest {' '.join(tests)} ended with {code}\n{text[-2000:]}")


def bare(failed: str) -> str:
    """A test's name, without the reason of its failure."""
    return re.sub(r" \((hangs|crashes|cannot be collected)\)$", "", failed)
