"""Models in files of other programs: what they predict, how their arrays were taken, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

import fastlenet
from fastlenet import Chain, LeNet, nn
from fastlenet.files import CheckpointError
from fastlenet.models import LeNet5
from helpers.command import Result, one_line
from helpers.keras_files import lenet_layers, save_keras, weights_of
from helpers.torch_files import save, save_old

Array = npt.NDArray[Any]
State = dict[str, Array]

LAYERS = ("conv1", "conv2", "fc1", "fc2")


def renamed(model: nn.Sequential, *names: str, prefix: str = "") -> State:
    """The state_dict with other names of the layers, as a Sequential of PyTorch has them."""
    own = [name for name, layer in zip(model.names, model.layers, strict=True) if layer.shapes()]
    new = dict(zip(own, names, strict=True))
    return {f"{prefix}{new[name.split('.')[0]]}.{name.split('.')[1]}": array for name, array in model.state_dict().items()}


def loaded(path: Path, **options: Any) -> tuple[nn.Sequential, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = fastlenet.load(path, **options)
    assert isinstance(model, nn.Sequential) and not model.training
    lines = [str(warning.message) for warning in told]
    assert all(line.startswith(str(path)) and line.isprintable() and len(line) < 600 for line in lines)
    return model, lines


def refused(path: Path, pattern: str, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=pattern) as caught:
        fastlenet.load(path, **options)
    line = str(caught.value)
    assert str(path) in line and line.isprintable() and len(line) < 700


def equal(model: nn.Sequential, other: nn.Sequential) -> None:
    assert repr(model) == repr(other) and model.parameter_buffer.tobytes() == other.parameter_buffer.tobytes()


# --- arrays by name, and by shape and order ------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [save, save_old])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_state_dict_of_pytorch(write: Callable[..., Path], prefix: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", {prefix + name: array for name, array in LeNet(5).state_dict().items()})
    model, (line,) = loaded(path)
    equal(model, LeNet(5))
    assert "does not say how its images are normalised; taken as those of MNIST" in line and model.mean == 0.1307


@pytest.mark.parametrize("names", [("0", "3", "7", "9"), ("features.0", "features.3", "classifier.0", "classifier.2")])
def test_other_names(names: tuple[str, ...], tmp_path: Path) -> None:
    """One line says how they were taken."""
    model, (line, _) = loaded(save(tmp_path / "m.pt", renamed(LeNet(5), *names, prefix="module.")))
    equal(model, LeNet(5))
    taken = ", ".join(f"{name}.weight as {own}.weight" for name, own in zip(names, LAYERS, strict=True))
    assert line.endswith(f"its arrays are taken by their shapes as those of LeNet: {taken}")


@pytest.mark.parametrize("classes", [3, 20, 50, 500])
def test_biases_of_one_shape(classes: int, tmp_path: Path) -> None:
    """As many classes as other layers have outputs: the order decides, or where there is none the layers' names."""
    state = renamed(LeNet(5, classes=classes), "a", "b", "c", "d")
    model, _ = loaded(save(tmp_path / "m.pt", state))
    equal(model, LeNet(5, classes=classes))
    save_file(state, tmp_path / "m.safetensors")
    model, _ = loaded(tmp_path / "m.safetensors")
    equal(model, LeNet(5, classes=classes))


def test_layers_of_one_shape_without_an_order(tmp_path: Path) -> None:
    """Where shapes do not decide, the order of a state_dict does; a safetensors file has none."""
    own = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)), seed=4, names=["a", "b", "c"])
    state = dict(
        zip(("x.weight", "x.bias", "w.weight", "w.bias", "v.weight", "v.bias"), own.state_dict().values(), strict=True)
    )
    empty = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)), names=["a", "b", "c"])
    model, _ = loaded(save(tmp_path / "m.pt", state), network=empty)
    assert model is empty
    equal(model, own)
    save_file(state, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "its shapes are not those of", network=empty)


def test_lenet5_needs_a_word(tmp_path: Path) -> None:
    """The same shapes are often trained with ReLU and max-pooling, which give other answers."""
    path = save(tmp_path / "m.pt", LeNet5(5).state_dict())
    refused(path, "does not say which activations and which pooling it has; give network lenet5 for tanh and average pooling")
    model, _ = loaded(path, network="lenet5")
    equal(model, LeNet5(5))
    colours = LeNet5(5, input_shape=(3, 32, 32))
    path = save(tmp_path / "m.pt", colours.state_dict())
    refused(path, "give image_size such as 32", network="lenet5")
    model, _ = loaded(path, network="lenet5", image_size=32)
    equal(model, colours)


def test_images_whose_size_the_shapes_do_not_say(tmp_path: Path) -> None:
    small = LeNet(5, input_shape=(1, 8, 8))
    path = save(tmp_path / "m.pt", small.state_dict())
    refused(path, "its shapes are not those of LeNet")
    model, _ = loaded(path, image_size=(8, 8))
    equal(model, small)
    refused(path, "its shapes are not those of LeNet", image_size=28)


def test_a_chain(tmp_path: Path) -> None:
    model, lines = loaded(save(tmp_path / "m.pt", Chain((1, 2, 3)).state_dict()))
    assert isinstance(model, Chain) and not lines


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda state: state.pop("fc2.bias"), "its shapes are not those of LeNet"),
        (lambda state: state.update(extra=np.zeros(3, np.float32)), "its shapes are not those of LeNet"),
        (lambda state: state["fc1.weight"].__setitem__((3, 4), np.nan), "fc1.weight holds a number that is not finite"),
        (lambda state: state["conv2.bias"].__setitem__(1, np.inf), "conv2.bias holds a number that is not finite"),
        (lambda state: state.update({"conv1.bias": np.arange(20)}), "conv1.bias expects floats, got int64"),
    ],
)
def test_what_no_model_has(change: Callable[[State], object], pattern: str, tmp_path: Path) -> None:
    state = {name: array.copy() for name, array in LeNet(5).state_dict().items()}
    change(state)
    refused(save(tmp_path / "m.pt", state), pattern)
    np.savez(tmp_path / "m.npz", **state)
    refused(tmp_path / "m.npz", pattern)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_numbers_of_other_sizes(dtype: str, tmp_path: Path) -> None:
    state = {name: array.astype(dtype) for name, array in LeNet(5).state_dict().items()}
    expected = LeNet()
    expected.load_state_dict(state)
    np.savez(tmp_path / "m.npz", **state)
    for path in (save(tmp_path / "m.pt", state), tmp_path / "m.npz"):
        equal(loaded(path)[0], expected)


def test_a_number_too_large_for_float32(tmp_path: Path) -> None:
    state = {name: array.astype("f8") for name, array in LeNet(5).state_dict().items()}
    state["fc2.weight"][0, 0] = 1e39
    refused(save(tmp_path / "m.pt", state), "fc2.weight holds a number that is too large for float32")


# --- NumPy's archives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_file(compressed: bool, tmp_path: Path) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "m.npz", **LeNet(5).state_dict())
    equal(loaded(tmp_path / "m.npz")[0], LeNet(5))


def keras_arrays(model: LeNet) -> list[Array]:
    """The weights of a LeNet as `get_weights` of Keras gives them: (r, s, c, k), (in, out), and fc1 for images (h, w, c)."""
    state = dict(model.state_dict())
    h = w = int((state["fc1.weight"].shape[1] // 50) ** 0.5)
    state["fc1.weight"] = state["fc1.weight"].reshape(500, 50, h, w).transpose(0, 2, 3, 1).reshape(500, -1)
    return [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in state.values()]


def test_an_npz_file_of_keras(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", *keras_arrays(LeNet(5)))
    model, (line, _) = loaded(tmp_path / "m.npz")
    equal(model, LeNet(5))
    assert "arr_0 as conv1.weight" in line and "kernels (r, s, c, k), matrices (in, out) and images (h, w, c)" in line


def test_an_npz_file_with_names_of_ones_own(tmp_path: Path) -> None:
    state = dict(zip(("W1", "b1", "W2", "b2", "W3", "b3", "W4", "b4"), LeNet(5).state_dict().values(), strict=True))
    np.savez(tmp_path / "m.npz", **dict(sorted(state.items())))
    equal(loaded(tmp_path / "m.npz")[0], LeNet(5))


def test_an_npz_file_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=np.array([print], object))
    refused(tmp_path / "m.npz", "'a.npy' holds Python objects, which could run any code")


# --- the command ---------------------------------------------------------------------------------------------------------


def test_training_goes_on_from_weights_of_pytorch(train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path) -> None:
    save(tmp_path / "m.pt", renamed(LeNet.pretrained(), "0", "3", "7", "9"))
    done = train_here("--data-dir", small_mnist, "--load-model", "m.pt", "--epochs", 0, "--quiet")
    assert done.code == 0 and float(done.out.split()[-1].rstrip("%")) > 99, done
    assert "m.pt: its arrays are taken by their shapes as those of LeNet: 0.weight as conv1.weight" in done.err
    save(tmp_path / "m.pt", LeNet5(5).state_dict())
    message = one_line(train_here("--data-dir", small_mnist, "--load-model", "m.pt", "--epochs", 0))
    assert "m.pt: network expects parameters of lenet, got those of lenet5; pass --network lenet5" in message
    done = train_here("--data-dir", small_mnist, "--load-model", "m.pt", "--epochs", 0, "--network", "lenet5", "--quiet")
    assert done.code == 0, done


def test_training_takes_the_normalisation_of_the_file(
    train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path
) -> None:
    """Weights for pixels in [0, 1] are evaluated on pixels in [0, 1], not on those that MNIST's mean and std give."""
    model = LeNet.pretrained()
    state = {name: array.copy() for name, array in model.state_dict().items()}
    state["conv1.bias"] -= state["conv1.weight"].sum((1, 2, 3)) * np.float32(0.1307 / 0.3081)
    state["conv1.weight"] /= np.float32(0.3081)
    model.load_state_dict(state)
    layers = [*lenet_layers()[:1], ("Rescaling", {"name": "r", "scale": 1 / 255}), *lenet_layers()[1:]]
    save_keras(tmp_path / "m", layers, weights_of(model))
    done = train_here("--data-dir", small_mnist, "--load-model", "m.keras", "--epochs", 0, "--quiet")
    assert done.code == 0 and float(done.out.split()[-1].rstrip("%")) > 99, done


def test_training_refuses_other_layers(train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path) -> None:
    """A network of the same shapes whose activations are others."""
    layers = lenet_layers()
    layers[1][1]["activation"] = "linear"
    save_keras(tmp_path / "m", layers, weights_of(LeNet(5)))
    message = one_line(train_here("--data-dir", small_mnist, "--load-model", "m.keras", "--epochs", 0))
    assert "m.keras: no model to load; its layers are not those of the network; it has Conv2d, MaxPool2d, Conv2d" in message


@pytest.mark.parametrize("with_normalisation", [False, True])
@pytest.mark.parametrize("name", ["lenet", "lenet5", "sequential"])
def test_what_fastlenet_exported_to_onnx_comes_back(name: str, with_normalisation: bool, tmp_path: Path) -> None:
    """Equal in class, layers, names, weights and facts."""
    kinds: dict[str, nn.Sequential] = {"lenet": LeNet.pretrained(), "lenet5": LeNet5(3)}
    layers = [nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0), bias=False), nn.LeakyReLU(0.2), nn.MaxPool2d(2, 1), nn.Sigmoid()]
    layers += [nn.AvgPool2d((2, 1), 2, (1, 0)), nn.Tanh(), nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU()]
    kinds["sequential"] = nn.Sequential(*layers, nn.Linear(5, 4), input_shape=(3, 8, 6))
    model = kinds[name]
    if name != "lenet":
        model.set_facts(mean=0.45, std=0.225)
        model.set_facts(class_names=["a", "b", "c", "d"] if name == "sequential" else list("abcdefghij"))
    fastlenet.export(model.eval(), tmp_path / "m.onnx", with_normalisation=with_normalisation)
    again, lines = loaded(tmp_path / "m.onnx")
    assert type(again) is type(model) and again.names == model.names and again.facts == model.facts and not lines
    equal(again, model)
