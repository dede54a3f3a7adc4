"""Keras's files: what Keras 2 and Keras 3 wrote gives Keras's predictions, and everything else is refused in one line.

The files in tests/formats/files are of Keras 3.15.1 and of Keras 2.15.0 (TensorFlow 2.15.1); write_keras.py there wrote them.
"""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, nn
from fastlenet import ops as kernel_ops
from fastlenet.files import CheckpointError
from fastlenet.formats import keras
from fastlenet.formats.keras import KerasFile
from fastlenet.models.foreign.keras import built_from_keras
from helpers.keras_files import Config, Layer, described, lenet_layers, save_keras, save_old, save_weights, weights_of

FILES = Path(__file__).parent / "files"


def loaded(path: Path, **options: Any) -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fastlenet.load(path, **options)
    assert isinstance(model, nn.Sequential)
    return model


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(CheckpointError, match=pattern) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastlenet.load(path)
    message = str(caught.value)
    assert str(path) in message and message.isprintable() and len(message) < 700


# --- what Keras wrote ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", ["keras3_conv", "keras3_nested", "keras3_first", "keras2_conv", "keras2_nested"])
def test_predictions_are_those_of_keras(name: str, ending: str) -> None:
    """Kernels, matrices, the order of channels, padding, pooling, activations, normalisation, and a network in a network."""
    version, _, net = name.partition("_")
    said = np.load(FILES / f"{version}.npz")
    model = loaded(FILES / f"{name}.{ending}")
    given = model.predict_proba(said["images"].transpose(0, 3, 1, 2))
    expected = said[net]
    if net == "nested":  # which ends without a softmax
        expected = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    assert np.abs(given - expected).max() < 1e-5
    assert (model.mean, model.std) == ((0.0, 1.0) if net == "nested" else ((0.25, 0.5), (0.25, 0.5)))


@pytest.mark.parametrize("version", ["keras3", "keras2"])
def test_weights_alone_fill_a_model(version: str) -> None:
    whole = loaded(FILES / f"{version}_conv.keras")
    empty = nn.Sequential(*whole.layers, names=whole.names, input_shape=(2, 12, 10))
    model = loaded(FILES / f"{version}_conv.weights.h5", network=empty)
    assert model is empty and model.parameter_buffer.tobytes() == whole.parameter_buffer.tobytes()


# --- the same layouts, written by h5py -----------------------------------------------------------------------------------

WRITERS = [save_keras, save_old, save_weights]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("write", WRITERS)
def test_a_lenet(write: Callable[..., Path], dtype: str, tmp_path: Path) -> None:
    """Comes back as a LeNet: fc1's columns are in the order of (c, h, w) again."""
    own = LeNet(5)
    own.load_state_dict({name: array.astype(dtype) for name, array in own.state_dict().items()})
    weights = {name: [array.astype(dtype) for array in arrays] for name, arrays in weights_of(LeNet(5)).items()}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = fastlenet.load(write(tmp_path / "m", lenet_layers(), weights))
    assert isinstance(model, LeNet) and model.parameter_buffer.tobytes() == own.parameter_buffer.tobytes()
    assert (model.mean, model.std) == (0.0, 1.0) and "taken as pixels in [0, 1], by mean 0 and std 1" in str(told[-1].message)


def test_bfloat16(tmp_path: Path) -> None:
    state = {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in LeNet(5).state_dict().items()}
    own = LeNet()
    own.load_state_dict(state)
    weights = {
        name: [(np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16).view("V2") for array in arrays]
        for name, arrays in weights_of(own).items()
    }
    model = loaded(save_weights(tmp_path / "m", lenet_layers(), weights))
    assert model.parameter_buffer.tobytes() == own.parameter_buffer.tobytes()


@pytest.mark.parametrize("write", WRITERS)
def test_weights_that_are_not_finite(write: Callable[..., Path], tmp_path: Path) -> None:
    weights = weights_of(LeNet(5))
    weights["conv2d_1"][0][2, 3, 4, 5] = np.nan
    refused(write(tmp_path / "m", lenet_layers(), weights), r"conv.*\.weight holds a number that is not finite")


def small(*layers: Layer, shape: list[int] | None = None) -> tuple[list[Layer], dict[str, list[np.ndarray[Any, Any]]]]:
    begin: Layer = ("InputLayer", {"name": "input", "batch_shape": [None, *(shape or [8, 8, 1])]})
    dense = ("Dense", {"name": "dense", "units": 3})
    return [begin, *layers, ("Flatten", {"name": "flatten"}), dense], {"dense": [np.ones((64, 3)), np.zeros(3)]}


def built_refused(config: Any, weights: dict[str, list[np.ndarray[Any, Any]]], pattern: str) -> None:
    """As `refused`, of a description without its file."""
    with pytest.raises(ValueError, match=pattern) as caught:
        built_from_keras(KerasFile(config, weights, by_name=True)).model(kernel_ops)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


REFUSED: dict[str, tuple[Layer, str]] = {
    "a Lambda": (
        ("Lambda", {"name": "l", "function": ["4wEAAAA", None, None]}),
        "layer 'l': 'Lambda' has no layer in fastlenet",
    ),
    "a custom layer": (("Mine", {"name": "m"}), "layer 'm': 'Mine' has no layer"),
    "batch normalisation": (("BatchNormalization", {"name": "b"}), "'BatchNormalization' has no layer"),
    "an unknown activation": (("Activation", {"name": "a", "activation": "gelu"}), "the activation 'gelu' has no layer"),
    "an activation of its own": (("Activation", {"name": "a", "activation": {"class_name": "f"}}), "a function of its own"),
    "uneven padding": (("MaxPooling2D", {"name": "p", "pool_size": 3, "strides": 2, "padding": "same"}), "one side more"),
    "a stride of zero": (
        ("MaxPooling2D", {"name": "p", "pool_size": 2, "strides": [1, 0], "padding": "same"}),
        "stride expects integers of at least 1",
    ),
    "the mean of padded windows": (
        ("AveragePooling2D", {"name": "p", "pool_size": 3, "strides": 1, "padding": "same"}),
        "leaves out",
    ),
    "an unknown padding": (("MaxPooling2D", {"name": "p", "padding": "causal"}), "the padding 'causal' has no layer"),
    "dilation": (("Conv2D", {"name": "c", "dilation_rate": [2, 2]}), r"dilation_rate \[2, 2\] has no layer"),
    "groups": (("Conv2D", {"name": "c", "groups": 2}), "groups 2 has no layer"),
    "a conv without weights": (("Conv2D", {"name": "c"}), "layer 'c' expects 2 arrays of weights, the file has 0"),
    "a limit": (("ReLU", {"name": "r", "max_value": 6.0}), "max_value 6.0 has no layer"),
    "a softmax inside": (("Softmax", {"name": "s"}), "a softmax expects scores of classes"),
    "scaling by a word": (("Rescaling", {"name": "r", "scale": "x"}), "could not convert"),
    "scaling by minus one": (("Rescaling", {"name": "r", "scale": -1.0}), "a factor that is not positive"),
    "scaling by infinity": (("Rescaling", {"name": "r", "scale": 1e999}), "expects a finite number"),
    "scaling by three numbers": (("Rescaling", {"name": "r", "scale": [1, 2, 3]}), "one for each of 1 channels"),
    "channels in two places": (("MaxPooling2D", {"name": "p", "data_format": "channels_first"}), "expects"),
    "a reshape of pixels": (("Reshape", {"name": "r", "target_shape": [4, 16, 1]}), "a Reshape to"),
    "a dropout of all": (("Dropout", {"name": "d", "rate": 1.0}), r"p expects a number in \[0, 1\)"),
    "no arguments": (("ReLU", None), "expects its arguments as an object"),  # type: ignore[dict-item]
    "no class": ((None, {}), "class_name expects a str"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_fastlenet_does_not_have(name: str) -> None:
    layer, pattern = REFUSED[name]
    layers, weights = small(layer)
    built_refused(json.loads(described(layers)), weights, pattern)


CONFIGS: dict[str, tuple[Any, str]] = {
    "a class of its own": ({"class_name": "MyModel", "config": {}}, "a network of the class 'MyModel'"),
    "no JSON": ("{", "damaged, or not a Keras file"),
    "a list": ([], "no JSON object"),
    "deep JSON": ("[" * 100_000, "damaged, or not a Keras file"),
    "no layers": ({"class_name": "Sequential", "config": {"layers": []}}, "the network has no layers"),
    "layers a word": ({"class_name": "Sequential", "config": {"layers": "x"}}, "a list of at most 1,000 layers"),
    "many layers": ({"class_name": "Sequential", "config": {"layers": [{}] * 1001}}, "a list of at most 1,000 layers"),
    "a shape that is not known": (
        {
            "class_name": "Sequential",
            "config": [{"class_name": "InputLayer", "config": {"batch_shape": [None, None, None, 1]}}],
        },
        "images of a shape that is not known",
    ),
    "no shape": (
        {"class_name": "Sequential", "config": [{"class_name": "ReLU", "config": {"name": "r"}}]},
        "does not say the shape of its images",
    ),
    "a code's name": (
        {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {}, "registered_name": "os>system"}]},
        "a class of the writer's own",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_descriptions(name: str, tmp_path: Path) -> None:
    config, pattern = CONFIGS[name]
    if isinstance(config, dict):
        built_refused(config, {}, pattern)
        return
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        file.create_group("model_weights")
    refused(tmp_path / "m.h5", pattern)


def functional(*nodes: tuple[str, str | list[str]]) -> dict[str, Any]:
    """A network of ReLU layers by their names and what they get."""
    layers = []
    for name, sources in nodes:
        kind = "ReLU" if sources else "InputLayer"
        config: Config = {"name": name} | ({} if sources else {"batch_shape": [None, 4, 4, 1]})
        inbound = [[[source, 0, 0, {}] for source in ([sources] if isinstance(sources, str) else sources)]]
        layers.append({"class_name": kind, "name": name, "config": config, "inbound_nodes": inbound if sources else []})
    return {"class_name": "Functional", "config": {"layers": layers}}


@pytest.mark.parametrize(
    ("nodes", "pattern"),
    [
        ([("a", ""), ("b", "a"), ("c", ["a", "b"])], "layer 'c' branches"),
        ([("a", ""), ("b", "a"), ("c", "a")], "layer 'c' branches"),
        ([("a", ""), ("b", ""), ("c", "a")], "a network of 2 inputs"),
        ([("b", "c"), ("c", "b")], "a network of 0 inputs"),
        ([("a", ""), ("b", "a"), ("c", "d"), ("d", "c")], "layers are not one row"),
    ],
)
def test_networks_that_are_no_row(nodes: Any, pattern: str) -> None:
    built_refused(functional(*nodes), {}, pattern)


# --- hostile HDF5 --------------------------------------------------------------------------------------------------------


def hdf5(path: Path, write: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


@pytest.mark.slow
def test_no_other_file_is_opened(tmp_path: Path) -> None:
    secret = hdf5(tmp_path / "secret.h5", lambda file: file.create_dataset("a", data=np.ones(9)))
    (tmp_path / "raw").write_bytes(bytes(80))
    path = tmp_path / "m.h5"
    refused(hdf5(path, lambda file: file.__setitem__("layers", h5py.ExternalLink(secret, "/"))), "'layers' is a link")
    refused(hdf5(path, lambda file: file.__setitem__("layers", h5py.SoftLink("/"))), "'layers' is a link")
    outside = [(str(tmp_path / "raw"), 0, 80)]
    refused(hdf5(path, lambda file: file.create_dataset("a", (10,), "f8", external=outside)), "'a' is stored in another file")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource(secret, "a", (9,))
        file.create_virtual_dataset("a", layout)

    refused(hdf5(path, virtual), "'a' is stored in another file")


@pytest.mark.slow
def test_what_would_take_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    refused(hdf5(path, lambda file: file.create_dataset("a", (1 << 40,), "f4", chunks=True)), "more than 20 times the file")
    refused(hdf5(path, lambda file: file.create_dataset("a", (1 << 24,), "f4", compression="gzip")), "more than 20 times")
    refused(hdf5(path, lambda file: file.__setitem__("a/b/c/d/e/f/g/h/i/j/k/l/m", 1)), "nested too deep")

    def circle(file: h5py.File) -> None:
        group = file.create_group("layers")
        for name in "abcdefgh":
            group[name] = group

    refused(hdf5(path, circle), "nested too deep|more than 100,000 groups")


def test_archives_that_are_not_those_of_keras(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.weights.h5", b"x")
    refused(path, "an archive without 'config.json'")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": []}))
        file.writestr("model.weights.h5", b"x")
    refused(path, "cannot be read|damaged")


@pytest.mark.slow
def test_a_library_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HDF5 library is in a process of its own, which is ended."""
    program = tmp_path / "hdf5.py"
    monkeypatch.setattr(keras, "_PROGRAM", program)
    monkeypatch.setattr(keras, "_SECONDS", 1)
    for code, reason in {
        "while True: pass": "the HDF5 library does not end",
        "import os; os.abort()": "fails, exit code -6",
    }.items():
        program.write_text(code)
        refused(FILES / "keras3_nested.h5", reason)


def test_the_working_folder_is_no_source_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h5py.py").write_text("raise SystemExit('not this')")
    loaded(FILES / "keras3_nested.h5")


def test_without_h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"^reading Keras's files needs the package h5py: pip install 'fastlenet\[keras\]'$"):
        fastlenet.load(FILES / "keras3_conv.h5")
