"""fastlenet convert: what it understands of a file, what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, nn
from fastlenet.cli.main import main
from fastlenet.models import LeNet5
from helpers.keras_files import lenet_layers, save_keras, weights_of
from helpers.torch_files import save

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def convert(*arguments: str) -> nn.Sequential:
    assert main(["convert", *arguments]) == 0
    model = fastlenet.load(arguments[1])
    assert isinstance(model, nn.Sequential)
    return model


def fails(capsys: Capture, *arguments: str) -> str:
    """The one line of an error; nothing is written."""
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert main(["convert", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert {path: path.read_bytes() for path in Path().iterdir()} == before
    return line.removeprefix("fastlenet convert: error: ")


def test_weights_of_pytorch(tmp_path: Path, capsys: Capture) -> None:
    own = LeNet(5)
    new = dict(zip(("0", "3", "7", "9"), ("conv1", "conv2", "fc1", "fc2"), strict=True))
    kinds = ("weight", "bias")
    save(Path("m.pt"), {f"module.{key}.{kind}": own.state_dict()[f"{new[key]}.{kind}"] for key in new for kind in kinds})
    model = convert("m.pt", "m.safetensors")
    assert isinstance(model, LeNet) and model.parameter_buffer.tobytes() == own.parameter_buffer.tobytes()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "m.pt: a file of PyTorch, LeNet" and lines[-1] == "saved m.safetensors"
    assert any(line.startswith("  conv2    Conv2d(kernel_size=(5, 5)") for line in lines)
    assert (
        "images 1x28x28, normalised by mean 0.1307 and std 0.3081" in lines and "classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in lines
    )
    assumed = [line for line in lines if line.startswith("assumed: ")]
    assert (
        "0.weight as conv1.weight" in assumed[0] and "taken as those of MNIST" in assumed[1] and "set_facts" not in assumed[1]
    )


def test_facts_of_the_command_line(capsys: Capture) -> None:
    save(Path("m.pt"), LeNet(5, input_shape=(3, 28, 28), classes=3).state_dict())
    line = fails(capsys, "m.pt", "m.safetensors")
    assert "m.pt: does not say how its images are normalised; give --mean and --std, such as 0.1307 and 0.3081" in line
    model = convert("m.pt", "m.safetensors", "--mean", "0.1,0.2,0.3", "--std", "0.5", "--class-names", "cat,dog,a bird")
    assert (model.mean, model.std, model.class_names) == ((0.1, 0.2, 0.3), 0.5, ("cat", "dog", "a bird"))
    assert "assumed" not in capsys.readouterr().out
    assert convert("m.pt", "m.safetensors", "--mean", "0", "--std", "1", "--class-names", "7,8,9").class_names == (7, 8, 9)


def test_words_of_flags(capsys: Capture) -> None:
    save(Path("m.pt"), LeNet5(5, input_shape=(3, 32, 32)).state_dict())
    facts = ["--mean", "0", "--std", "1"]
    assert "give --network lenet5 for tanh and average pooling" in fails(capsys, "m.pt", "m.safetensors", *facts)
    network = [*facts, "--network", "lenet5"]
    assert "give --image-size such as 32" in fails(capsys, "m.pt", "m.safetensors", *network)
    assert isinstance(convert("m.pt", "m.safetensors", *network, "--image-size", "32"), LeNet5)
    wrong = ["--image-size", "32", "--mean", "0", "--std=-1"]
    assert fails(capsys, "m.pt", "m.safetensors", *network, *wrong).startswith("--std expects a positive number")
    line = fails(capsys, "m.pt", "m.safetensors", *network, "--image-size", "32", "--class-names", "a,b")
    assert line.startswith("--class-names expects a name for each of the model's outputs")


def test_a_model_of_keras(mnist: Any) -> None:
    save_keras(Path("m"), lenet_layers(), weights_of(LeNet.pretrained()))
    model = convert("m.keras", "m.safetensors", "--mean", "0.1307", "--std", "0.3081", "--class-names", "0,1,2,3,4,5,6,7,8,9")
    images = mnist.test_images[:100]
    assert (model.predict(images) == LeNet.pretrained().predict(images)).all()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (("none.pt", "m.safetensors"), "none.pt: no such file"),
        (("m.pt", "m.pt"), "m.pt: the name of the file to write expects the ending .safetensors"),
        (("m.pt", "m.onnx"), "fastlenet export writes files of other programs"),
        (("m.safetensors", "m.safetensors"), "is the file to convert; give the new file another name"),
        (("m.pt", "none/m.safetensors"), "there is no folder none"),
        (("bad.pt", "m.safetensors"), "bad.pt: no architecture, and its shapes are not those of LeNet or Chain"),
        (("nan.npz", "m.safetensors"), "fc1.bias holds a number that is not finite"),
    ],
)
def test_wrong_files(arguments: tuple[str, ...], pattern: str, capsys: Capture) -> None:
    state = LeNet(5).state_dict()
    save(Path("m.pt"), state)
    LeNet(5).save("m.safetensors")
    save(Path("bad.pt"), {"a": np.ones(3, np.float32)})
    np.savez("nan.npz", **{**state, "fc1.bias": np.full(500, np.nan)})
    assert pattern in fails(capsys, *arguments)


@pytest.mark.parametrize(("flag", "value"), [("--mean", "x"), ("--image-size", "0x0x"), ("--network", "vgg")])
def test_wrong_flags(flag: str, value: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "m.pt", "m.safetensors", flag, value])
    line = capsys.readouterr().err
    assert f"argument {flag}: " in line and "_" not in line


def test_other_commands_read_these_files(capsys: Capture, small_mnist: Path) -> None:
    save(Path("m.pt"), LeNet.pretrained().state_dict())
    assert main(["evaluate", "m.pt", "--data", str(small_mnist)]) == 0
    assert "accuracy 99" in capsys.readouterr().out
    photo = Path(__file__).parents[2] / "examples" / "photo.png"
    assert main(["predict", "m.pt", str(photo)]) == 0
    assert ": 5" in capsys.readouterr().out
