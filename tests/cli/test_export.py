"""fastlenet export: what it prints, its errors, its exit codes. What is in the files: tests/exports."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fastlenet import Chain, Ensemble, LeNet
from fastlenet.cli.main import main
from fastlenet.data import load
from fastlenet.exports import FORMATS
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits, expect_within

Command = Callable[..., Result]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def run(*arguments: str | Path) -> Result:
        try:
            code = main(["export", *map(str, arguments)])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        return Result(code, *capsys.readouterr())

    return run


def answers(path: str, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def test_the_package_s_network(export: Command, small_mnist: Path) -> None:
    done, images = export("m.onnx", "--with-normalisation"), load(small_mnist).test_images[:50]
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"m.onnx: {Path('m.onnx').stat().st_size:,} bytes",
        "images: uint8 (n, 1, 28, 28) -> probabilities: float32 (n, 10)",
    ]
    expect_within(answers("m.onnx", images[:, np.newaxis]), LeNet.pretrained().predict_proba(images), 1e-5)


def test_the_accuracy_of_integers(export: Command, small_mnist: Path) -> None:
    """On the test images of --data, whose training images give the ranges."""
    model = LeNet(seed=1, input_shape=(1, 28, 28))
    model.set_facts(mean=0.13, std=0.31)
    model.save("own.safetensors")
    data = load(small_mnist)
    small = model.quantize(data)
    done = export("own.safetensors", "m.onnx", "--int8", "--data", small_mnist)
    assert (done.code, done.err) == (0, "")
    size, ends, accuracy = done.out.splitlines()
    assert size.startswith("m.onnx: 43") and ends == "images: uint8 (n, 1, 28, 28) -> scores: float32 (n, 10)"
    images, labels = data.test_images[:, np.newaxis], data.test_labels
    scores = small.logits(images)
    integers, floats = scores.argmax(axis=1), model.predict(images)
    assert re.fullmatch(
        rf"accuracy on the 500 test images of .*: {(integers == labels).mean():.2%} in integers of 8 bits, "
        rf"{(floats == labels).mean():.2%} in float32; {(integers != floats).sum():,} answers differ",
        accuracy,
    )
    expect_same_bits(answers("m.onnx", images), scores)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_from_the_command(suffix: str, export: Command, small_mnist: Path) -> None:
    """An old file is replaced; nothing else is left in the folder."""
    Path(f"m{suffix}").write_text("old")
    done = export(f"m{suffix}", "--data", small_mnist)
    assert (done.code, done.err) == (0, "") and done.out.startswith(f"m{suffix}: {Path(f'm{suffix}').stat().st_size:,} bytes\n")
    assert [path.name for path in Path().iterdir()] == [f"m{suffix}"] and Path(f"m{suffix}").stat().st_size > 100_000


REFUSED = {
    ("m.xyz",): r"m\.xyz: .*one of the endings \.onnx .*\.h .*\.html",
    ("m.html", "--with-normalisation"): "--with-normalisation: m.html always takes raw images; leave the flag out",
    ("m.h", "--with-normalisation"): "--with-normalisation: m.h always takes raw images; leave the flag out",
    ("nowhere/m.onnx",): "nowhere/m.onnx: there is no folder nowhere",
    ("folder.onnx",): r"folder\.onnx: is a folder",
    ("missing.safetensors", "m.onnx"): r"missing\.safetensors: no such file",
    ("two.safetensors", "m.onnx"): r"two\.safetensors: has 2 networks; .*fastlenet\.export\(ensemble\[0\]",
    ("chain.safetensors", "m.onnx", "--with-normalisation"): r"m\.onnx: the model .*expects images",
    ("m.onnx", "--int8", "--data", "nothing"): "nothing: no such folder or file",
    ("m.onnx", "--int9"): r"--int9.*did you mean --int8\?",
    (): "arguments are required: FILE",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_is_refused(arguments: tuple[str, ...], export: Command) -> None:
    """In one line, and without a file."""
    Path("folder.onnx").mkdir()
    models = [LeNet(seed=seed, input_shape=(1, 28, 28)) for seed in (1, 2)]
    for model in models:
        model.set_facts(mean=0.13, std=0.31)
    Ensemble(models).save("two.safetensors")
    Chain().save("chain.safetensors")
    before = sorted(Path().iterdir())
    assert re.search(REFUSED[arguments], one_line(export(*arguments)))
    assert sorted(Path().iterdir()) == before


def test_without_the_package_onnx(export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert one_line(export("m.onnx")).endswith("pip install 'fastlenet[onnx]'")


def test_help(export: Command) -> None:
    done = export("--help")
    assert done.code == 0 and done.out.startswith("Write a model to a file for other programs.")
    flat = " ".join(done.out.split())
    for suffix, kind in FORMATS.items():
        assert f"{suffix}: {kind.sentence}" in flat and f"m{suffix}" in flat
    assert "--with-normalisation" in flat and "--int8" in flat
