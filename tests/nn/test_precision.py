"""The precision of a model: which layers compute with bfloat16, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, Recipe, _core, bf16, fit, load, nn, ops, reference
from fastlenet.data import Dataset
from fastlenet.models import LeNet5
from fastlenet.reference.bf16 import on_tiles
from fastlenet.testing.units import using
from fastlenet.training.checkpoint import OtherLevelError, OtherRunError
from helpers.arrays import normals
from helpers.bf16 import UNITS
from helpers.command import train_command
from helpers.expect import expect_same_bits

Rng = np.random.Generator


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


@pytest.fixture
def emulated() -> Iterator[None]:
    """A unit that every CPU has."""
    with using("vdpbf16ps-emulated"):
        yield


def small(precision: str = "bf16", **options: object) -> nn.Sequential:
    layers = nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 30, bias=False), nn.Tanh(), nn.Linear(30, 10), nn.ReLU()
    return nn.Sequential(*layers, seed=3, precision=precision, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unit")
def test_all_linear_layers_but_the_last_round(rng: Rng) -> None:
    """To the bits of the ops; forward and backward, trained, evaluated and frozen."""
    model, x, dy = small(), normals(rng, (9, 20)), normals(rng, (9, 10))
    p = model.parameters()
    a = ops.relu_forward(bf16.linear_forward(x, p["0.weight"], p["0.bias"]))
    b = ops.tanh_forward(bf16.linear_forward(a, p["2.weight"]))
    y = ops.relu_forward(ops.linear_forward(b, p["4.weight"], p["4.bias"]))
    for _ in range(3):  # the later passes are captured ones
        expect_same_bits(model(x), y)
        dx = model.backward(dy, need_dx=True)
        dy4 = ops.relu_backward(dy, y)
        db, *of_4 = ops.linear_backward(dy4, b, p["4.weight"])
        da, dweight2, _ = bf16.linear_backward(ops.tanh_backward(db, b), a, p["2.weight"])
        expected, *of_0 = bf16.linear_backward(ops.relu_backward(da, a), x, p["0.weight"])
        expect_same_bits(dx, expected)
        model.backward(dy)
        expect_same_bits(tuple(model.gradients().values()), (*of_0, dweight2, *of_4))
    frozen = model.freeze()
    for some in (x, x[:1], x[:1], x[:4]):
        for other in (model.eval(), frozen, pickle.loads(pickle.dumps(frozen)), copy.deepcopy(model)):
            expect_same_bits(other(some), y[: len(some)])


@pytest.mark.usefixtures("unit")
def test_lenet(rng: Rng) -> None:
    """The fused convolutions and fc1 round, fc2 does not. conv1's gradients are those of float32, and conv2's but for tiles."""
    x, dy = normals(rng, (18, 1, 28, 28)), normals(rng, (18, 10))
    model = LeNet(seed=1, precision="bf16", algorithm="winograd")
    p, y = model.parameters(), model(x)
    conv1 = bf16.conv2d_relu_max_pool2d_forward(x, p["conv1.weight"], p["conv1.bias"], algorithm="winograd")
    conv2 = bf16.conv2d_relu_max_pool2d_forward(conv1[0], p["conv2.weight"], p["conv2.bias"], algorithm="winograd")
    flat = conv2[0].reshape(18, -1)
    hidden = ops.relu_forward(bf16.linear_forward(flat, p["fc1.weight"], p["fc1.bias"]))
    expect_same_bits(y, ops.linear_forward(hidden, p["fc2.weight"], p["fc2.bias"]))
    model.backward(dy)
    dhidden, *fc2 = ops.linear_backward(dy, hidden, p["fc2.weight"])
    dflat, *fc1 = bf16.linear_backward(ops.relu_backward(dhidden, hidden), flat, p["fc1.weight"])
    options = {"padding": 0, "kernel_size": 2}
    of_conv2 = dflat.reshape(conv2[0].shape), conv2[1], conv1[0], p["conv2.weight"]
    dx, *of2 = bf16.conv2d_relu_max_pool2d_backward(*of_conv2, **options)
    tiles = bf16.level().endswith("tdpbf16ps")
    assert on_tiles(*of_conv2)
    assert (of2[0] != ops.conv2d_relu_max_pool2d_backward(*of_conv2, **options)[1]).any() == tiles
    _, *of1 = ops.conv2d_relu_max_pool2d_backward(dx, conv1[1], x, p["conv1.weight"], **options, need_dx=False)
    expect_same_bits(tuple(model.gradients().values()), (*of1, *of2, *fc1, *fc2))
    exact = LeNet(seed=1, algorithm="winograd").eval()(x)
    assert (y != exact).any()
    np.testing.assert_allclose(y, exact, atol=0.02)


@pytest.mark.usefixtures("unit")
def test_switched(rng: Rng) -> None:
    """precision may be set at any time, also between training passes, which are captured."""
    model, x = small("float32"), normals(rng, (6, 20))
    exact = model(x)
    model.precision = "bf16"
    rounded = model(x)
    assert (rounded != exact).any()
    for precision, expected in (("float32", exact), ("bf16", rounded)) * 2:
        model.precision = precision
        assert model.precision == precision
        expect_same_bits(model(x), expected)


def test_a_single_layer_never_rounds(emulated: None, rng: Rng) -> None:
    x = normals(rng, (4, 7))
    one, other = (nn.Sequential(nn.Linear(7, 3), nn.ReLU(), precision=precision) for precision in ("bf16", "float32"))
    expect_same_bits(one(x), other(x))


@pytest.mark.usefixtures("unit")
def test_the_level_of_a_precision_is_its_own(unit: str) -> None:
    assert small("float32").level() == _core.level()
    assert small("bf16").level() == bf16.level() == f"{_core.level()}+{unit.removesuffix('-emulated')}"


def test_refused_precisions(emulated: None) -> None:
    for make in (small, lambda precision: LeNet(precision=precision), lambda precision: LeNet5(precision=precision)):
        for wrong, error in (("fp8", ValueError), ("BF16", ValueError), (None, TypeError), (16, TypeError)):
            with pytest.raises(error, match=r"^\w+: precision expects .*, got "):
                make(precision=wrong)
    model = LeNet(ops=reference)
    with pytest.raises(ValueError, match=r"only the CPU's kernels, fastlenet\.ops, have bf16") as refused:
        model.precision = "bf16"
    assert str(refused.value).startswith("LeNet: precision expects float32 for the backend 'reference', got 'bf16'")
    assert model.precision == "float32"


def test_refused_where_no_unit_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulated: None) -> None:
    """Asked for by a program, it is an error; asked for by a file, one line, and float32."""
    LeNet(seed=2, precision="bf16").save(tmp_path / "rounded.safetensors")
    LeNet(seed=2).save(tmp_path / "plain.safetensors")

    def refuse() -> str:
        raise ValueError("this CPU has no AVX512_BF16; use float32")

    monkeypatch.setattr(_core, "unit", refuse)
    with pytest.raises(ValueError, match=r"^LeNet: precision expects float32 on this machine, got 'bf16'; this CPU has no"):
        LeNet(precision="bf16")
    with pytest.warns(RuntimeWarning, match=r"this CPU has no AVX512_BF16; use float32; computing in float32$") as caught:
        model = load(tmp_path / "rounded.safetensors")
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    x = np.ones((2, 1, 28, 28), np.float32)
    expect_same_bits(model.eval()(x), load(tmp_path / "plain.safetensors").eval()(x))


def test_a_file_says_the_precision(tmp_path: Path, emulated: None) -> None:
    model = LeNet(seed=2, precision="bf16")
    model.save(tmp_path / "rounded.safetensors")
    loaded = load(tmp_path / "rounded.safetensors")
    assert loaded.precision == "bf16" and LeNet().precision == "float32"
    x = np.ones((2, 1, 28, 28), np.float32)
    expect_same_bits(loaded.eval()(x), model.eval()(x))
    loaded.precision = "float32"
    loaded.save(tmp_path / "plain.safetensors")
    assert load(tmp_path / "plain.safetensors").precision == "float32"


# --- training ---


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:200], mnist.train_labels[:200], mnist.test_images[:50], mnist.test_labels[:50]
    return Dataset("few", *arrays, 10, mnist.mean, mnist.std)


def network(settings: Recipe) -> nn.Sequential:
    """Small enough for the emulations, with two layers that round."""
    layers = nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10)
    return nn.Sequential(*layers, seed=settings.seed)


def recipe(**changes: object) -> Recipe:
    return Recipe(**{"epochs": 2, "batch_size": 50, "precision": "bf16", "seed": 5} | changes)  # type: ignore[arg-type]


def trained(few: Dataset, **changes: object) -> bytes:
    settings = recipe(**changes)
    model = network(settings)
    fit(model, few, settings, verbose=0)
    assert model.precision == settings.precision == LeNet.of(settings).precision
    return bytes(model.parameter_buffer.tobytes())


def test_training_has_the_bits_of_the_instruction(few: Dataset) -> None:
    """Of any of its units, and for any number of threads; of another instruction, or in float32, it has others."""
    before, found = fastlenet.get_num_threads(), {}
    try:
        for unit in UNITS:
            for threads in (1, 3):
                fastlenet.set_num_threads(threads)
                with using(unit):
                    found[unit, threads] = trained(few)
    finally:
        fastlenet.set_num_threads(before)
    by_instruction = {
        instruction: {bits for (unit, _), bits in found.items() if unit.startswith(instruction)}
        for instruction in ("vdpbf16ps", "tdpbf16ps")
    }
    assert all(len(bits) == 1 for bits in by_instruction.values())
    assert len(set(found.values()) | {trained(few, precision="float32")}) == 3


def test_a_shared_batch_rounds_too(few: Dataset, emulated: None) -> None:
    """In every part of it; its sums are others than those of the whole batch."""
    bits = {trained(few, shards=shards, precision=precision) for shards in (1, 2) for precision in ("bf16", "float32")}
    assert len(bits) == 4


def test_a_checkpoint_is_refused_across(few: Dataset, tmp_path: Path) -> None:
    def run(resume: str | None = None, **changes: object) -> bytes:
        settings = recipe(**changes)
        model = network(settings)
        if resume is None:
            fit(model, few, settings, verbose=0, checkpoint=tmp_path / "run.safetensors")
        else:
            fit(model, few, settings, verbose=0, resume=tmp_path / resume)
        return bytes(model.parameter_buffer.tobytes())

    with using("vdpbf16ps-emulated"):
        run(epochs=1)
        whole = trained(few, epochs=1)
        level = f"{_core.level()}+vdpbf16ps"
        with pytest.raises(OtherLevelError, match=re.escape(f"made at level {level}, this is {_core.level()}, ")):
            run("run.safetensors", epochs=1, precision="float32")
    with using(next(name for name in UNITS if name.startswith("vdpbf16ps"))):  # by hardware, if there is
        assert run("run.safetensors", epochs=1) == whole
    with using("tdpbf16ps-emulated"):
        cure = f"set FASTLENET_ISA={_core.level()} and FASTLENET_BF16=vdpbf16ps, or vdpbf16ps-emulated, or allow it"
        with pytest.raises(OtherLevelError, match=re.escape(cure)):
            run("run.safetensors", epochs=1)
    with using("vdpbf16ps-emulated"):
        settings = recipe(epochs=1, precision="float32")
        with pytest.raises(OtherRunError, match="made with precision bf16, this run has float32"):
            fit(network(settings), few, settings, verbose=0, resume=tmp_path / "run.safetensors", allow_level_change=True)


@pytest.mark.slow
def test_the_command(small_mnist: Path, tmp_path: Path) -> None:
    def train(unit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*train_command("--data-dir", str(small_mnist), "--epochs", "1", "--threads", "1", *arguments)]
        environment = os.environ | {"FASTLENET_BF16": unit}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)

    unit = UNITS[0]
    done = train(unit, "--precision", "bf16", "--checkpoint", "run.safetensors")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "precision bf16" in said and f"level {_core.level()}+{unit.removesuffix('-emulated')}" in said
    done = train("avx9000", "--precision", "bf16")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "precision expects float32 on this machine, got 'bf16'; FASTLENET_BF16: unknown unit 'avx9000'" in done.stderr
    resume = [sys.executable, "-m", "fastlenet.train", "--resume", "run.safetensors", "--precision", "float32"]
    done = subprocess.run(resume, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 2 and "--precision float32 contradicts run.safetensors, which was made with bf16" in done.stderr
