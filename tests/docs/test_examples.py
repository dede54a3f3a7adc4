"""The programs in examples/ run, and do what they say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastlenet import LeNet, nn
from fastlenet.data import Dataset
from helpers.expect import float64_reference

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_its_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names and names == {name.removeprefix("test_") for name in vars(sys.modules[__name__]) if name[5:] in names}


def test_own_layer() -> None:
    own_layer = example("own_layer")
    assert own_layer.main() > 0.85  # by chance it would be 0.1


def test_custom_loop() -> None:
    assert example("custom_loop").main(images=3200, epochs=1) > 0.8


def test_own_data() -> None:
    assert example("own_data").main() > 0.9  # by chance it would be 0.33


def test_own_digit(capsys: pytest.CaptureFixture[str]) -> None:
    own_digit = example("own_digit")
    (seen,) = own_digit.main(own_digit.PHOTO)
    assert seen.label == 5 and not seen.warnings
    assert f"{own_digit.PHOTO}: 5 with 9" in capsys.readouterr().out


def test_browser_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = example("browser_page").main(page=tmp_path / "digit.html")
    assert written.bytes == (tmp_path / "digit.html").stat().st_size > 500_000
    accuracy, address = capsys.readouterr().out.splitlines()
    assert float(re.findall(r"([\d.]+)% in 8-bit", accuracy)[0]) > 99 and address.endswith((tmp_path / "digit.html").as_uri())


def test_keras_weights() -> None:
    with pytest.warns(UserWarning, match=r"kernels \(r, s, c, k\)"), pytest.warns(UserWarning, match="by mean 0 and std 1"):
        assert example("keras_weights").main() > 0.99


@pytest.mark.slow
def test_scikit_learn() -> None:
    assert example("scikit_learn").main() > 0.97


@pytest.mark.slow
def test_c(tmp_path: Path, mnist: Dataset) -> None:
    """make exports, compiles and reads MNIST's first digits; the program reads PGM files too, and says what is no image."""
    folder = shutil.copytree(EXAMPLES / "c", tmp_path / "c", ignore=shutil.ignore_patterns("digits*", "network.h"))
    names = sorted(path.name for path in folder.iterdir())
    python = [f"FASTLENET={sys.executable} -m fastlenet", f"PYTHON={sys.executable}"]

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    made = run("make", *python)
    assert made.returncode == 0 and made.stderr == "", made
    expected = LeNet.pretrained().predict_proba(mnist.test_images[:10])
    found = re.findall(r"^digits\.raw\[(\d)\]: (\d) ([0-9.]+)%$", made.stdout, re.MULTILINE)
    assert [(int(at), int(label)) for at, label, _ in found] == [*enumerate(expected.argmax(axis=1))]
    np.testing.assert_allclose([float(percent) for *_, percent in found], 100 * expected.max(axis=1), atol=0.0051)  # rounded

    image = mnist.test_images[17].tobytes()
    (folder / "seven.pgm").write_bytes(b"P5 # binary\n# of 28\n28\t28\n255\n" + image)
    (folder / "half.raw").write_bytes(image + image[:100])
    (folder / "wide.pgm").write_bytes(b"P5\n29 28\n255\n" + image)
    done = run("./digits", "seven.pgm", "half.raw", "wide.pgm", "nowhere", ".")
    assert done.returncode == 1 and [line[:15] for line in done.stdout.splitlines()] == ["seven.pgm[0]: 7", "half.raw[0]: 7 "]
    said = [
        "half.raw: expected images of 784 bytes, got 100",
        "wide.pgm: expected a PGM of 28x28",
        "nowhere: No such file",
        ".: ",
    ]
    assert [line.startswith(start) for line, start in zip(done.stderr.splitlines(), said, strict=True)] == [True] * 4
    for path in (*folder.glob("*.pgm"), folder / "half.raw"):
        path.unlink()
    assert run("make", "clean").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == names


def test_gradients_of_the_own_layer(rng: np.random.Generator) -> None:
    """Against central differences, in float64."""
    model = nn.Sequential(example("own_layer").Swish(), ops=float64_reference())
    x, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
    model(x)
    dx = model.backward(dy, need_dx=True)
    assert dx is not None
    for array, gradient in ((x, dx), (model.parameter_buffer, model.gradient_buffer)):
        for place in np.ndindex(array.shape):
            kept, values = array[place], []
            for change in (1e-6, -1e-6):
                array[place] = kept + change
                values.append(float((dy * model(x)).sum()))
            array[place] = kept
            assert abs((values[0] - values[1]) / 2e-6 - gradient[place]) < 1e-7


@pytest.mark.slow
@pytest.mark.oracle
def test_pytorch_bridge() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    here, there = example("pytorch_bridge").main(images=6400)
    assert here > 0.85 and there > 0.85 and here != there  # by chance it would be 0.1
