"""The fixtures: instruction-set levels and thread counts, backends, guarded outputs, data files, the command."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastlenet import _core, cuda, get_num_threads, ops, reference, set_num_threads
from fastlenet.backend import gaps_of
from fastlenet.cuda import DeviceError
from fastlenet.cuda.array import device
from fastlenet.data import Dataset, load_mnist
from helpers import bf16, int8
from helpers.arrays import Guarded
from helpers.backends import on_device, thread_orders
from helpers.browser import Browser
from helpers.command import Result, train_command
from helpers.idx import write_idx

settings.register_profile(
    "fastlenet",
    derandomize=True,
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fastlenet")

THREADS = (1, 2, 3)

# The ways to run an op: each level that this CPU has, and on a GPU, if there is a build for one, each order of its threads.
ORDERS = [pytest.param(f"cuda-{order}", marks=pytest.mark.cuda) for order in thread_orders()]
BACKENDS = [*_core.levels_available(), *ORDERS]


def pytest_configure(config: pytest.Config) -> None:
    # Where these tests are a script's background job, its shell lets them ignore Ctrl-C, which they are about to send.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    if "PYTHONPATH" in os.environ:  # so that commands that run in folders of their own test this package, not an installed one
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    expression = config.option.markexpr or ""
    if "cuda" in expression and "not cuda" not in expression:
        try:
            device()
        except DeviceError as error:
            raise pytest.UsageError(f"-m {expression}: {error}") from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a GPU the number of the CPU's threads does not matter: one is enough; its gaps, which are printed, are left out."""
    gaps = gaps_of(cuda)

    def needed(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        if item.get_closest_marker("cuda") is None or callspec is None:
            return True
        return callspec.params.get("threads", 1) == 1 and getattr(callspec.params.get("op"), "name", None) not in gaps

    config.hook.pytest_deselected(items=[item for item in items if not needed(item)])
    items[:] = [item for item in items if needed(item)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Which ops a backend lacks, and why; which instructions this CPU lacks."""
    for backend in (ops, reference, cuda):
        for name, reason in gaps_of(backend).items():
            terminalreporter.write_line(f"{backend.__name__} has no {name} yet: {reason}")
    for instruction in (*bf16.LACKING, *int8.LACKING):
        terminalreporter.write_line(f"NOT RUN on this CPU: {instruction}, which it lacks; its emulation was tested alone")


@pytest.fixture(params=_core.levels_available())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each level that this CPU has, in use for the test."""
    before = _core.level()
    _core.set_level(request.param)
    yield request.param
    _core.set_level(before)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend, in use for the `ops` of backends.py during the test."""
    name, before = request.param, _core.level()
    if name.startswith("cuda-"):
        with on_device(name.removeprefix("cuda-")):
            yield name
        return
    _core.set_level(name)
    yield name
    _core.set_level(before)


@pytest.fixture(params=["cpu", *ORDERS[-1:]])
def device_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The CPU at its best level, and a GPU with its threads in one order, for the `ops` of backends.py during the test."""
    if request.param == "cpu":
        yield request.param
        return
    with on_device(request.param.removeprefix("cuda-")):
        yield request.param


@pytest.fixture(params=THREADS, ids=lambda count: f"threads{count}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


@pytest.fixture
def thread_counts(backend: str) -> Iterator[Iterator[int]]:
    """Each of THREADS, in use while its turn lasts; only the first on a GPU, where the CPU's threads do not matter."""
    before = get_num_threads()

    def turns() -> Iterator[int]:
        for count in THREADS[: 1 if backend.startswith("cuda-") else None]:
            set_num_threads(count)
            yield count

    yield turns()
    set_num_threads(before)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture
def torch() -> Any:
    """PyTorch, the oracle. Without it the test is skipped, or fails where FASTLENET_REQUIRE_ORACLE=1 says that it must be."""
    try:
        import torch
    except ImportError:
        if os.environ.get("FASTLENET_REQUIRE_ORACLE") == "1":
            pytest.fail("PyTorch is not installed, and FASTLENET_REQUIRE_ORACLE=1 asks for it")
        pytest.skip("PyTorch is not installed")
    return torch


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, for tests marked `browser`."""
    chromium = Browser()
    yield chromium
    chromium.close()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Outputs to hand to `out=`; that nothing around them changed is checked at the end."""
    outputs = Guarded()
    yield outputs
    outputs.check()


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load_mnist()


@pytest.fixture(scope="session")
def small_mnist(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first 2,000 training and 500 test images of MNIST, in IDX files."""
    folder = tmp_path_factory.mktemp("small_mnist")
    write_idx(folder / "train-images-idx3-ubyte", mnist.train_images[:2000])
    write_idx(folder / "train-labels-idx1-ubyte.gz", mnist.train_labels[:2000], compress=True)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", mnist.test_images[:500], compress=True)
    write_idx(folder / "t10k-labels-idx1-ubyte", mnist.test_labels[:500])
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Result]:
    """Runs `python -m fastlenet.train` with the arguments given, in a folder of the test's own."""

    def run(*arguments: str | Path, **environment: str) -> Result:
        done = subprocess.run(
            train_command(*arguments), cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=300
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def train_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The same in this process, which saves the time of starting Python, and sees what a test has patched."""
    from fastlenet.cli.train import main

    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def run(*arguments: str | Path) -> Result:
        before = get_num_threads()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:  # argparse's
            assert isinstance(stop.code, int)
            code = stop.code
        finally:
            set_num_threads(before)
        return Result(code, *capsys.readouterr())

    return run
