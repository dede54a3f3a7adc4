"""Quantized networks in files: the same bits after loading, in the commands and in exports; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastlenet
from fastlenet.cli import convert as convert_command
from fastlenet.cli import evaluate, export, predict, report
from fastlenet.data import load_mnist
from fastlenet.files import CheckpointError
from fastlenet.formats.tensor_file import TensorFile, write_tensors
from fastlenet.images import predict_image
from fastlenet.quantization import QuantizedModel
from helpers.arrays import Array
from helpers.networks import NETWORKS, some_images

Words = dict[str, str]


@pytest.fixture
def small() -> QuantizedModel:
    return fastlenet.LeNet.pretrained().quantize(load_mnist())


@pytest.mark.parametrize("name", NETWORKS)
def test_loads_as_it_was_saved(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    images = some_images(model, 20)
    before = model.quantize(images)
    before.save(tmp_path / "int8.safetensors")
    after = fastlenet.load(tmp_path / "int8.safetensors")
    assert isinstance(after, QuantizedModel) and after.facts == before.facts and after.network == before.network
    assert repr(after) == repr(before) and after.nbytes == before.nbytes
    np.testing.assert_array_equal(after.logits(images), before.logits(images))
    for (key, one), (other, two) in zip(before.activations(images).items(), after.activations(images).items(), strict=True):
        assert key == other and np.array_equal(one, two)
    after.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "int8.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".h", ".html"])
def test_exports_what_was_loaded(suffix: str, small: QuantizedModel, tmp_path: Path) -> None:
    """To the same bytes as the network itself, whose calibration gives the same integers."""
    small.save(tmp_path / "int8.safetensors")
    loaded = fastlenet.load(tmp_path / "int8.safetensors")
    made = fastlenet.export(loaded, tmp_path / f"loaded{suffix}")  # type: ignore[arg-type]  # one network
    fastlenet.export(fastlenet.LeNet.pretrained(), tmp_path / f"itself{suffix}", int8=suffix != ".html", data=load_mnist())
    assert made.quantized is loaded
    assert (tmp_path / f"loaded{suffix}").read_bytes() == (tmp_path / f"itself{suffix}").read_bytes()


@pytest.mark.slow
def test_the_commands_take_it(small: QuantizedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "int8.safetensors")
    small.save(file)
    picture = np.zeros((60, 60), np.uint8)
    picture[16:44, 16:44] = load_mnist().test_images[0]
    assert predict_image(small, picture).label == predict_image([small, fastlenet.LeNet.pretrained()], picture).label == 7
    Image.fromarray(picture).save(tmp_path / "seven.png")
    assert predict.main([file, str(tmp_path / "seven.png")]) == 0
    assert "seven.png: 7" in capsys.readouterr().out
    assert evaluate.main([file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == "LeNet in int8" and found["accuracy"] == small.evaluate(load_mnist()).accuracy
    assert export.main([file, str(tmp_path / "net.h")]) == 0
    assert "bytes of constants" in capsys.readouterr().out
    assert report.main([file, "-o", str(tmp_path / "page.html")]) == 2
    assert "a quantized network, whose layers a report does not show" in capsys.readouterr().err
    assert convert_command.main([file, str(tmp_path / "other.safetensors")]) == 2
    assert "a quantized network already is a file of fastlenet" in capsys.readouterr().err


def changed(file: Path, change: Callable[[dict[str, Array], Words, dict[str, object]], object]) -> Path:
    """A copy of a model's file, of which something is not as it was."""
    read = TensorFile(file)
    arrays, words = read.read(), dict(read.metadata)
    said = json.loads(words["quantized"])
    change(arrays, words, said)
    words["quantized"] = json.dumps(said)
    other = file.with_name("changed.safetensors")
    write_tensors(other, arrays, words)
    return other


def layer(said: dict[str, object], name: str) -> dict[str, object]:
    layers = said["layers"]
    assert isinstance(layers, list)
    found: dict[str, object] = next(entry for entry in layers if entry["name"] == name)
    return found


WRONG: list[tuple[str, Callable[[dict[str, Array], Words, dict[str, object]], object]]] = [
    ("layers expects", lambda arrays, words, said: said.update(layers=[])),
    ("expects an object of network and layers", lambda arrays, words, said: said.update(other=1)),
    (r"layers\[2\].layer expects one of", lambda arrays, words, said: layer(said, "conv2").update(layer="Conv3d")),
    ("Conv2d expects zero_point, stride, padding", lambda arrays, words, said: layer(said, "conv1").pop("stride")),
    ("the layers expect a tensor 'fc1.bias', which is missing", lambda arrays, words, said: arrays.pop("fc1.bias")),
    ("tensor 'more' belongs to no layer", lambda arrays, words, said: arrays.update(more=np.zeros(3))),
    ("fc1.weight expects int8, got int16", lambda a, words, said: a.update({"fc1.weight": a["fc1.weight"].astype(np.int16)})),
    (
        "weight expects 19 input channels, x has 20",
        lambda a, words, said: a.update({"conv2.weight": a["conv2.weight"][:, :19].copy()}),
    ),
    ("stride expects integers of at least 1", lambda arrays, words, said: layer(said, "conv1").update(stride=[1, 0])),
    ("at most 2\\^27 numbers", lambda arrays, words, said: layer(said, "conv1").update(padding=[2**30, 0])),
    ("multiplier expects finite", lambda a, words, said: a["fc1.multiplier"].fill(np.nan)),
    ("so that no sum overflows", lambda a, words, said: a["fc1.bias"].fill(2**31 - 1)),
    ("zero_point expects None or 0..255", lambda arrays, words, said: layer(said, "conv1").update(zero_point=256)),
    ("expects to give one score", lambda arrays, words, said: layer(said, "fc2").update(zero_point=3)),
    ("behind the scores expects bytes", lambda arrays, words, said: layer(said, "fc1").update(zero_point=None)),
    ("class_names expects a name for each of 10", lambda arrays, words, said: words.update(class_names="[1, 2]")),
    ("input_shape expects the shape", lambda arrays, words, said: words.update(input_shape="[784]")),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_what_is_refused(case: int, small: QuantizedModel, tmp_path: Path) -> None:
    message, change = WRONG[case]
    small.save(tmp_path / "int8.safetensors")
    with pytest.raises(CheckpointError, match=message) as error:
        fastlenet.load(changed(tmp_path / "int8.safetensors", change))
    assert "\n" not in str(error.value)
