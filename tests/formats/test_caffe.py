"""Caffe's `.caffemodel` in both of its forms: the network that it describes, with its one ReLU, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlenet
from fastlenet import LeNet, nn
from fastlenet.files import CheckpointError
from helpers.protobuf import Fields, message

Array = npt.NDArray[Any]

# The fields of LayerParameter and of V1LayerParameter: name, type, bottom, top, blobs, and the parameters of each type.
NEW = {"name": 1, "type": 2, "bottom": 3, "top": 4, "blobs": 7, "include": 8, "layers": 100}
NEW |= {"transform": 100, "conv": 106, "pool": 121, "linear": 117, "relu": 123, "dropout": 108}
OLD = {"name": 4, "type": 5, "bottom": 2, "top": 3, "blobs": 6, "include": 32, "layers": 2}
OLD |= {"transform": 36, "conv": 10, "pool": 19, "linear": 17, "relu": 30, "dropout": 12}
OLD_TYPES = {"Data": 5, "Convolution": 4, "Pooling": 17, "InnerProduct": 14, "ReLU": 18, "SoftmaxWithLoss": 21, "Accuracy": 1}
OLD_TYPES |= {"Dropout": 6, "LRN": 15, "Softmax": 20, "TanH": 23}

Layer = dict[str, Any]


def lenet(**changes: Layer) -> list[Layer]:
    """The layers of lenet_train_test.prototxt. changes: of a layer by its name."""
    state = LeNet(5).state_dict()
    pool = {1: 0, 2: 2, 3: 2}
    layers: list[Layer] = [
        {"name": "mnist", "type": "Data", "bottom": [], "top": ["data", "label"], "transform": {1: 0.00390625}},
        {"name": "mnist", "type": "Data", "bottom": [], "top": ["data", "label"], "transform": {1: 9.0}, "include": {1: 1}},
        {"name": "conv1", "type": "Convolution", "weights": "conv1", "conv": {1: 20, 4: 5, 6: 1}},
        {"name": "pool1", "type": "Pooling", "pool": pool},
        {"name": "conv2", "type": "Convolution", "weights": "conv2", "conv": {1: 50, 4: 5, 6: 1}},
        {"name": "pool2", "type": "Pooling", "pool": pool},
        {"name": "ip1", "type": "InnerProduct", "weights": "fc1", "linear": {1: 500}},
        {"name": "relu1", "type": "ReLU", "top": ["ip1"]},
        {"name": "ip2", "type": "InnerProduct", "weights": "fc2", "linear": {1: 10}},
        {"name": "accuracy", "type": "Accuracy", "bottom": ["ip2", "label"], "top": ["accuracy"], "include": {1: 1}},
        {"name": "loss", "type": "SoftmaxWithLoss", "bottom": ["ip2", "label"], "top": ["loss"]},
    ]
    last = "data"
    for layer in layers:
        layer |= changes.get(layer["name"], {})
        layer.setdefault("bottom", [last])
        layer.setdefault("top", [layer["name"]])
        if "weights" in layer:
            own = layer["weights"]
            layer.setdefault("blobs", [state[f"{own}.weight"], state[f"{own}.bias"]])
        if layer["type"] not in ("Data", "Accuracy", "SoftmaxWithLoss"):
            last = layer["top"][0]
    return layers


def save(path: Path, layers: list[Layer], *, old: bool = False, legacy: bool = False, **net: Any) -> Path:
    """legacy: blobs with num, channels, height and width."""
    fields = OLD if old else NEW
    made = []
    for layer in layers:
        content: dict[int, Any] = {fields["name"]: layer["name"], fields["type"]: layer["type"]}
        if old:
            content[fields["type"]] = OLD_TYPES[layer["type"]]
        content |= {fields[key]: layer[key] for key in ("bottom", "top", "include") if key in layer}
        content |= {
            fields[key]: layer[key] for key in ("transform", "conv", "pool", "linear", "relu", "dropout") if key in layer
        }
        content[fields["blobs"]] = [blob(array, legacy) for array in layer.get("blobs", [])]
        made.append(content)
    path.write_bytes(message({1: "LeNet", fields["layers"]: made, **{int(key[1:]): value for key, value in net.items()}}))
    return path


def blob(array: Array, legacy: bool) -> Fields:
    numbers = {8 if array.dtype == np.float64 else 5: array.reshape(-1)}
    if legacy:
        return {**dict(zip((1, 2, 3, 4), (1,) * (4 - array.ndim) + array.shape, strict=True)), **numbers}
    return {7: {1: np.array(array.shape)}, **numbers}


def loaded(path: Path, **options: Any) -> tuple[nn.Sequential, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = fastlenet.load(path, **options)
    assert isinstance(model, nn.Sequential)
    return model, [str(warning.message) for warning in told]


def expected() -> nn.Sequential:
    """Caffe's LeNet, by its own layers."""
    own = LeNet(5)
    names = ["conv1", "pool1", "conv2", "pool2", "flatten", "fc1", "relu3", "fc2"]
    model = nn.Sequential(*(own[name] for name in names), names=names, input_shape=(1, 28, 28))
    model.load_state_dict(own.state_dict())
    model.set_facts(mean=0.0, std=1 / (255 * 0.00390625))
    return model


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_caffes_lenet(old: bool, legacy: bool, tmp_path: Path) -> None:
    """Its one ReLU is behind ip1, and its pixels are in [0, 255/256]."""
    model, (line,) = loaded(save(tmp_path / "m.caffemodel", lenet(), old=old, legacy=legacy))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Flatten", "Linear", "ReLU", "Linear"]
    assert model.names == ["conv1", "pool1", "conv2", "pool2", "ip1_flatten", "ip1", "relu1", "ip2"]
    assert "has one ReLU only, behind ip1" in line
    assert model.input_shape == (1, 28, 28) and model.mean == 0.0 and abs(model.std - 256 / 255) < 1e-7  # type: ignore[operator]
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    np.testing.assert_allclose(model.predict_proba(images), expected().predict_proba(images), atol=1e-6)


def test_doubles(tmp_path: Path) -> None:
    layers = lenet()
    for layer in layers:
        layer["blobs"] = [array.astype(np.float64) for array in layer.get("blobs", [])]
    model, _ = loaded(save(tmp_path / "m.caffemodel", layers))
    assert model.parameter_buffer.tobytes() == expected().parameter_buffer.tobytes()


def test_a_network_without_its_data_layer(tmp_path: Path) -> None:
    """The size is that for which the poolings fit, or what the file says; the scale is taken as Caffe's LeNet's."""
    for net in ({}, {"_4": [64, 1, 28, 28]}, {"_8": {1: np.array([1, 1, 28, 28])}}):
        model, lines = loaded(save(tmp_path / "m.caffemodel", lenet()[2:], **net))
        assert model.input_shape == (1, 28, 28) and "taken as Caffe's LeNet takes them" in lines[0]
    with pytest.raises(CheckpointError, match="layer 'pool1': Caffe pools the rest of 25 pixels too, by 2 in steps of 2"):
        loaded(save(tmp_path / "m.caffemodel", lenet(), _4=[1, 1, 29, 29]))


def test_a_mean(tmp_path: Path) -> None:
    model, _ = loaded(save(tmp_path / "m.caffemodel", lenet(mnist={"transform": {1: 0.5, 5: [51.0]}})[:1] + lenet()[2:]))
    assert (model.mean, model.std) == (0.2, pytest.approx(1 / 127.5))


def test_other_layers(tmp_path: Path) -> None:
    """Leaky ReLU, dropout, a mean, two strides, padding, a softmax."""
    layers = lenet(relu1={"relu": {1: 0.125}}, pool2={"pool": {1: 1, 2: 2, 3: 2}})
    layers[2]["conv"] = {1: 20, 11: 5, 12: 5, 9: 2, 10: 2}
    layers.insert(8, {"name": "drop1", "type": "Dropout", "bottom": ["ip1"], "top": ["ip1"], "dropout": {1: 0.25}})
    layers[-1] = {"name": "prob", "type": "Softmax", "bottom": ["ip2"], "top": ["prob"]}
    layers[6]["blobs"][0] = np.zeros((500, 1250), np.float32)  # of 5x5 pixels, that is 28x28 with padding
    model, _ = loaded(save(tmp_path / "m.caffemodel", layers))
    assert repr(model["conv1"]).count("padding=(2, 2)") and repr(model["relu1"]) == "LeakyReLU(slope=0.125)"
    assert repr(model["drop1"]) == "Dropout(p=0.25)" and isinstance(model["pool2"], nn.AvgPool2d)
    assert model.input_shape == (1, 28, 28)


REFUSED: dict[str, tuple[Callable[[list[Layer]], object], str]] = {
    "an unknown layer": (lambda layers: layers[3].update(type="LRN"), "layer 'pool1': 'LRN' has no layer in fastlenet"),
    "a branch": (lambda layers: layers[5].update(bottom=["pool1"]), "layer 'pool2' does not follow the layer before it"),
    "groups": (lambda layers: layers[4]["conv"].update({5: 2}), "groups and dilation have no layer"),
    "dilation": (lambda layers: layers[4]["conv"].update({18: [2]}), "groups and dilation have no layer"),
    "no weights": (lambda layers: layers[4].update(blobs=[]), "layer 'conv2' expects 2 arrays of weights, the file has 0"),
    "three sizes": (lambda layers: layers[4]["conv"].update({6: [1, 1, 1]}), "two sizes are expected, got 3"),
    "other kernels": (lambda layers: layers[4]["conv"].update({4: 3}), "kernels of another size than its weights"),
    "a mean in a file": (
        lambda layers: layers[0]["transform"].update({4: "/etc/passwd"}),
        "in another file, which is not read",
    ),
    "a negative scale": (lambda layers: layers[0]["transform"].update({1: -1.0}), "a factor that is not positive"),
    "stochastic pooling": (lambda layers: layers[3].update(pool={1: 2, 2: 2, 3: 2}), "this pooling has no layer"),
    "NaN": (
        lambda layers: layers[8]["blobs"].__setitem__(0, np.full((10, 500), np.nan, np.float32)),
        "ip2.weight holds a number",
    ),
    "no convolution": (lambda layers: layers.__delitem__(slice(2, None)), "a network without a convolution"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    change, pattern = REFUSED[name]
    layers = lenet()
    change(layers)
    with pytest.raises(CheckpointError, match=pattern) as caught:
        loaded(save(tmp_path / "m.caffemodel", layers, _4=[1, 1, 28, 28]))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no layers"),
        (b"\x0a", "a number that is cut short"),
        (b"\x0a\xff\x01", "a field that is cut short"),
        (b"\x0b", "a field of the unknown kind 3"),
        (b"\x0a" + b"\xff" * 11, "a number of more than ten bytes"),
        (message({100: [{1: "a"}], 2: [{4: "a"}]}), "layers of two forms"),
        (b"\x08\x01" * 600_000, "more fields than any network has"),
        (message({100: [{1: b"\xff"}]}), "damaged"),
        (message({100: [{1: 3}]}), "field 1 is of another type"),
        (message({100: [{7: {7: {1: np.array([1 << 40, 1 << 40])}, 5: np.ones(3, np.float32)}}]}), "its shape says"),
    ],
    ids=["empty", "tag", "cut", "group", "long", "two forms", "many", "no text", "type", "shape"],
)
def test_damaged_bytes(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        loaded(tmp_path / "m.caffemodel")
