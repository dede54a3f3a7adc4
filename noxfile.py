"""Every check of the project as a command: `nox -l` lists them, `nox -s NAME` runs one in an environment of its own.

A session prepares the environment; the check itself is a script in tools/ (or one command), which runs in any environment that
has what its first lines name. tools/check runs all sessions in one environment, with --no-venv.
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
ORACLE = {"FASTLENET_REQUIRE_ORACLE": "1"}


def session(*packages: str) -> Callable[[Callable[[nox.Session], None]], Callable[[nox.Session], None]]:
    """A session in an environment with the packages; with --no-venv, the environment at hand must have them already."""

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
    """Run tools/NAME by the session's interpreter or by bash."""
    path = ROOT / "tools" / name
    command = ["python", path] if path.suffix == ".py" else ["bash", path]
    session.run(*map(str, [*command, *arguments]), env=env, external=True)


@nox.session(venv_backend="none")
def readme(session: nox.Session) -> None:
    """The README's commands in a fresh environment: install, train, test. Takes two minutes."""
    script(session, "readme", session.create_tmp())


@session(".[test]")
def tests(session: nox.Session) -> None:
    """The default tests, or those that pytest's arguments after -- choose."""
    script(session, "tests", *session.posargs)


@session(".[test,oracle]")
def oracle(session: nox.Session) -> None:
    """The tests against PyTorch."""
    script(session, "tests", "-m", "oracle and not slow", *session.posargs, env=ORACLE)


@session(".[test,oracle]")
def slow(session: nox.Session) -> None:
    """The slow tests, then one epoch on real data, which must reach 98.5 %."""
    script(session, "tests", "-m", "slow", *session.posargs, env=ORACLE)
    train = "python -m fastlenet.train --epochs 1 --threads 1 | python tools/accuracy.py 98.5"
    session.run("bash", "-o", "pipefail", "-c", train, external=True)


@session(".[dev]")
def lint(session: nox.Session) -> None:
    """ruff, clang-format, shellcheck, codespell, mypy: the hooks of .pre-commit-config.yaml on every file."""
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


@session(".[dev]")
def types(session: nox.Session) -> None:
    """mypy --strict over the package."""
    session.run("mypy", *session.posargs)


@session(".[dev]")
def imports(session: nox.Session) -> None:
    """Each module imports only from the floors below its own, and in no circle: the contracts in pyproject.toml."""
    session.run("lint-imports", *session.posargs)


@session(".[dev]")
def stub(session: nox.Session) -> None:
    """_core.pyi is what the bindings say; `nox -s stub -- --renew` rewrites it."""
    script(session, "stub.py", *([] if "--renew" in session.posargs else ["--check"]))


@session(".[dev]")
def symbols(session: nox.Session) -> None:
    """A build without warnings; level objects without weak symbols and load-time code."""
    script(session, "symbols", BUILD / "symbols")


@session(".[dev]")
def compilers(session: nox.Session) -> None:
    """The kernels by Clang and for AArch64, where these compilers are installed; a clear error for others."""
    script(session, "compilers", BUILD / "compilers")


@session(".[dev]")
def guard(session: nox.Session) -> None:
    """No op executes more instructions or takes longer than benchmarks/results/guard.json says; wants an idle machine."""
    script(session, "guard.py", "--build", BUILD / "symbols", *session.posargs)


@session(".[dev,oracle]")
def cuda(session: nox.Session) -> None:
    """The GPU backend on the emulated GPU, under sanitizers, without each barrier; compiled where nvcc is. Takes 15 minutes."""
    script(session, "cuda", BUILD / "cuda")


@session(".[dev]")
def sanitize(session: nox.Session) -> None:
    """The kernels under the address, undefined-behaviour and thread sanitizers, and a planted bug for each."""
    script(session, "sanitize", BUILD / "sanitize")


@session(".[dev]")
def mutate(session: nox.Session) -> None:
    """Plant faults, and see that the default tests notice each: takes hours; `-- NAME ...` and `-- --quick` take minutes."""
    script(session, "mutate.py", "--folder", BUILD / "mutate", *session.posargs)


@session("build")
def sdist(session: nox.Session) -> None:
    """Source distribution, wheel and editable install; the tests that the source distribution carries."""
    script(session, "sdist", BUILD / "sdist")


@nox.session(venv_backend="none")
def torchvision(session: nox.Session) -> None:
    """The tests that need torchvision, in an environment of their own."""
    script(session, "torchvision", BUILD / "torchvision")


@session(".[docs]")
def docs(session: nox.Session) -> None:
    """The documentation site in build/site, with warnings as errors."""
    script(session, "docs", *session.posargs)


@session()
def figures(session: nox.Session) -> None:
    """The documentation's figures are those of benchmarks/results; `nox -s figures -- --renew` rewrites them."""
    script(session, "figures.py", *([] if "--renew" in session.posargs else ["--check"]))


@session(".[dev]")
def workflows(session: nox.Session) -> None:
    """The files in .github, CITATION.cff and CMakePresets.json against their schemas, and zizmor over the workflows."""
    script(session, "workflows")


@session(".[test,oracle]")
def bench(session: nox.Session) -> None:
    """Kernels and training beside PyTorch, in short; figures only, they fail nothing."""
    session.run("python", "benchmarks/bench_kernels.py", "--rounds", "3", "--without-numpy")
    options = ["--rounds", "3", "--images", "20000", "--batch", "128", "--peers", "pytorch"]
    session.run("python", "benchmarks/bench_train.py", *options, *session.posargs)
