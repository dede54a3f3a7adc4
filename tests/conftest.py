"""What the tests share: instruction-set levels and thread counts, exact inputs, guarded outputs, data files, the command."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

from backends import on_device, thread_orders
from fastlenet import _core, get_num_threads, reference, set_num_threads
from fastlenet.cuda import DeviceError
from fastlenet.cuda.array import device
from fastlenet.data import Dataset, load_mnist

Array = npt.NDArray[Any]

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
    """On a GPU the number of the CPU's threads does not matter: one is enough."""

    def needed(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        return item.get_closest_marker("cuda") is None or callspec is None or callspec.params.get("threads", 1) == 1

    config.hook.pytest_deselected(items=[item for item in items if not needed(item)])
    items[:] = [item for item in items if needed(item)]


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


def integers(rng: np.random.Generator, shape: tuple[int, ...], largest: int = 3) -> Array:
    """Float32 integers in -largest..largest, one in four of them 0: every partial sum of their products is exact."""
    values = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.75)
    return np.asarray(values, np.float32)


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


class Guarded:
    """Output arrays, filled with NaN (or the largest integer) and with guard bytes on both sides, to check afterwards."""

    def __init__(self) -> None:
        self._memory: list[Array] = []

    def output(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 128, 0xA5, np.uint8)
        self._memory.append(memory)
        array = memory[64 : 64 + size].view(dtype).reshape(shape)
        array.fill(np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max)
        return array

    def check(self) -> None:
        for memory in self._memory:
            assert (memory[:64] == 0xA5).all() and (memory[-64:] == 0xA5).all(), "wrote outside the output"


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Outputs to hand to `out=`; that nothing around them changed is checked at the end."""
    outputs = Guarded()
    yield outputs
    outputs.check()


def expect_equal(actual: Any, expected: Any) -> None:
    """Equal numbers of equal shape; a zero's sign does not matter."""
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def expect_same_bits(actual: Any, expected: Any) -> None:
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def expect_meaningful(*arrays: Array) -> None:
    """At least 30 % of the numbers of each array, unless it is tiny, are not zero: else equality would prove little."""
    for array in arrays:
        assert array.size < 16 or np.count_nonzero(array) >= 0.3 * array.size, "too many zeros to mean anything"


def gamma(terms: int) -> float:
    """The bound of the relative error of a sum of that many products in float32: k*u / (1 - k*u), u = 2^-24 (Higham 2002)."""
    return terms * 2.0**-24 / (1 - terms * 2.0**-24)


def expect_within(actual: Array, exact: Array, bound: Array | float) -> None:
    """|actual - exact| <= bound, in float64."""
    error = np.abs(actual.astype(np.float64) - exact)
    worst = float((error - bound).max(initial=-np.inf))
    assert (error <= bound).all(), f"past the bound by {worst}"


def expect_as_exact(actual: Any, rival: Any, exact: Any) -> None:
    """The root mean square error is at most four times that of another float32 computation, or half an ulp of the largest.

    For what rounds so often, and through so many stages, that a bound of the worst case says nothing. Two computations that
    round at as many places differ by less than two; constants that one of them rounds to float32 and the other keeps in float64
    (Adam's rates) may double that. A term that is missing, or taken twice, is off by orders of magnitude.
    """
    exact = np.asarray(exact, np.float64)
    ours, theirs = (float(np.sqrt(np.mean((np.asarray(array, np.float64) - exact) ** 2))) for array in (actual, rival))
    assert ours <= max(4 * theirs, 2.0**-24 * float(np.abs(exact).max())), (ours, theirs)


def float64_reference() -> ModuleType:
    """The reference backend with parameters and activations in float64: what is exact, beside float32."""

    def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> Array:
        return reference.empty(shape, np.float64 if dtype == np.float32 else dtype)

    module = ModuleType("float64_reference")
    vars(module).update(vars(reference), empty=empty)
    return module


def write_idx(path: Path, array: Array, *, compress: bool = False, header: bytes | None = None) -> Path:
    """An IDX file of uint8, with another header than the true one if given."""
    true_header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    data = (true_header if header is None else header) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, 1) if compress else data)
    return path


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


class Result(NamedTuple):
    code: int
    out: str
    err: str


def train_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fastlenet.train", *map(str, arguments)]


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


def one_line(result: Result, code: int = 2) -> str:
    """The only line on standard error; never a traceback."""
    assert result.code == code, result
    lines = [line for line in result.err.splitlines() if not line.startswith(("usage:", " "))]
    assert len(lines) == 1, result.err
    return lines[0]
