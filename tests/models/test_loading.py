"""A model in a file: it comes back as it was, and files from anywhere are checked before they are used."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastlenet
from fastlenet import RECIPES, Chain, Ensemble, LeNet, Recipe, fit, nn, reference
from fastlenet.data import Dataset
from fastlenet.files import CheckpointError
from fastlenet.nn.description import LAYERS, described_layers, layers_of
from helpers.command import Result

Metadata = dict[str, str]

# One of each layer of the library, with arguments that are not the defaults.
EVERY_LAYER: list[nn.Layer] = [
    nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0), bias=False),
    nn.MaxPool2d(2, 1),
    nn.AvgPool2d((2, 1), 2, (1, 0)),
    nn.Flatten(),
    nn.Dropout(0.25),
    nn.Linear(16, 5),
]
EVERY_LAYER += [kind() for kind in LAYERS.values() if kind not in {type(layer) for layer in EVERY_LAYER}]


def metadata_of(path: Path) -> Metadata:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


def same(loaded: object, model: nn.Sequential) -> None:
    assert isinstance(loaded, nn.Sequential)
    assert type(loaded) is type(model) and repr(loaded) == repr(model) and loaded.facts == model.facts
    assert (loaded.names, loaded.seed, loaded.algorithm) == (model.names, model.seed, model.algorithm)
    assert loaded.parameter_buffer.tobytes() == model.parameter_buffer.tobytes()
    assert not loaded.training


# --- what is saved comes back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        LeNet(3, algorithm="winograd", dropout=0.5),
        LeNet(input_shape=(3, 12, 20), classes=4),
        Chain((1.5, -2, 0.25)),
        nn.Sequential(*EVERY_LAYER, input_shape=(3, 8, 6), seed=7),
        nn.Sequential(nn.Linear(2, 3), names=["a name. with/ anything \u00e9"]),
        nn.Sequential(),
    ],
    ids=["lenet", "lenet of colours", "chain", "every layer", "odd name", "empty"],
)
def test_a_model_comes_back_as_it_was(model: nn.Sequential, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    same(fastlenet.load(tmp_path / "model.safetensors"), model)


def test_every_layer_of_the_library_is_described() -> None:
    public = {kind for name in nn.__all__ if issubclass(kind := getattr(nn, name), nn.Layer)} - {nn.Layer}
    assert {type(layer) for layer in EVERY_LAYER} == set(LAYERS.values()) == public
    names = [str(number) for number in range(len(EVERY_LAYER))]
    again = layers_of(json.loads(json.dumps(described_layers(names, EVERY_LAYER))))
    assert again[0] == names and list(map(repr, again[1])) == list(map(repr, EVERY_LAYER))


def test_a_file_says_what_the_model_knows(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((12, 3, 8, 8), np.float32)
    data = Dataset.from_arrays(images, ["cat", "dog", "bird"] * 4)
    model = LeNet(input_shape=(3, 8, 8), classes=3)
    fit(model, data, "fast", epochs=1, verbose=0)
    model.save(tmp_path / "pets.safetensors")
    said = {name: json.loads(text) for name, text in metadata_of(tmp_path / "pets.safetensors").items() if name[0] not in "f"}
    assert said["architecture"]["network"] == "LeNet" and said["input_shape"] == [3, 8, 8]
    assert said["class_names"] == ["bird", "cat", "dog"]
    assert (tuple(said["mean"]), tuple(said["std"])) == (data.mean, data.std)
    assert metadata_of(tmp_path / "pets.safetensors")["fastlenet_version"] == fastlenet.config()["version"]
    loaded = fastlenet.load(tmp_path / "pets.safetensors")
    same(loaded, model)
    assert Recipe(**loaded.facts.recipe) == Recipe(**asdict(RECIPES["fast"]) | {"epochs": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        ([3, 7] * 4, (3, 7)),
        (["3", "7"] * 4, ("3", "7")),
        (np.array([0, 1] * 4, np.uint8), (0, 1)),
        (["b", "a"] * 4, ("a", "b")),
    ],
)
def test_labels_stay_as_the_user_gave_them(labels: Any, known: tuple[object, ...], tmp_path: Path) -> None:
    """Words that look like numbers stay words: a comparison of predictions with them would else be false for all."""
    model = LeNet(input_shape=(1, 8, 8), classes=2)
    fit(model, Dataset.from_arrays(np.zeros((8, 8, 8)), labels), epochs=0, verbose=0)
    model.save(tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors")
    assert loaded.facts.class_names == known and [type(name) for name in loaded.facts.class_names] == [*map(type, known)]


def test_a_recipe_of_many_numbers(tmp_path: Path) -> None:
    """Weights of two hundred classes are a long word."""
    model, weights = LeNet(input_shape=(1, 8, 8), classes=200), [1 + number / 7 for number in range(200)]
    fit(model, np.zeros((200, 8, 8)), np.arange(200), epochs=0, verbose=0, class_weight=weights)
    model.save(tmp_path / "m.safetensors")
    recipe = fastlenet.load(tmp_path / "m.safetensors").facts.recipe
    assert recipe == model.recipe and recipe is not None and len(str(recipe["class_weight"])) > 1000


def test_fit_tells_the_model_at_its_start(mnist: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    seen = []

    class Look(fastlenet.Callback):
        def begin(self, run: Any) -> None:
            seen.append(model.facts)

    fit(model, mnist.train_images[:8], mnist.train_labels[:8], epochs=1, verbose=0, callbacks=[Look()])
    assert seen[0] == model.facts
    assert model.input_shape == (1, 28, 28) and model.mean is not None and model.std is not None
    assert pickle.loads(pickle.dumps(model)).facts == model.facts


def test_a_refused_fit_leaves_what_the_model_knows(mnist: Dataset, tmp_path: Path) -> None:
    few = Dataset.from_arrays(mnist.train_images[:8] // 2, mnist.train_labels[:8], classes=10)
    model = LeNet.pretrained()
    known = model.facts
    (tmp_path / "there").touch()
    wrong: list[dict[str, Any]] = [
        {"schedule": lambda step, steps: math.nan},
        {"callbacks": [fastlenet.EarlyStopping()]},
        {"checkpoint": tmp_path / "there"},
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):
            fit(model, few, epochs=1, verbose=0, **arguments)
        assert model.facts == known


def test_a_file_of_the_command(train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path) -> None:
    done = train_here("--data", small_mnist, "--epochs", 1, "--dry-run", "--quiet", "--save-model", "m.safetensors")
    assert done.code == 0, done
    model = fastlenet.load(tmp_path / "m.safetensors")
    assert isinstance(model, LeNet) and model.class_names == tuple(range(10)) and model.recipe is not None
    assert model.algorithm == model.recipe["algorithm"] == "winograd" and model.mean is not None


def test_an_ensemble_comes_back(train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path) -> None:
    train_here("--data", small_mnist, "--epochs", 1, "--dry-run", "--quiet", "--ensemble", 2, "--save-model", "m.safetensors")
    ensemble = fastlenet.load(tmp_path / "m.safetensors")
    assert isinstance(ensemble, Ensemble) and len(ensemble) == 2 and ensemble.facts.input_shape == (1, 28, 28)
    assert ensemble[0].parameter_buffer.tobytes() != ensemble[1].parameter_buffer.tobytes()
    ensemble.save(tmp_path / "again.safetensors")
    again = fastlenet.load(tmp_path / "again.safetensors")
    assert isinstance(again, Ensemble)
    for member, other in zip(ensemble, again, strict=True):
        same(other, member)


def test_members_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match=r"^Ensemble: members\[1\] expects a model of the same layers, .*, got another$"):
        Ensemble([LeNet(), LeNet(classes=3)])
    with pytest.raises(ValueError, match=r"^Ensemble: members expects at least one model"):
        Ensemble([])


def test_on_another_backend(tmp_path: Path) -> None:
    LeNet(4).save(tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors", ops=reference)
    assert isinstance(loaded, LeNet) and loaded.ops is reference


# --- what no file can describe -------------------------------------------------------------------------------------------


class Own(nn.ReLU):
    pass


class Doubled(nn.Sequential):
    def __call__(self, x: Any) -> Any:
        return 2 * super().__call__(x)


class Renamed(nn.Sequential):
    pass


def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Own(), names=["fc", "swish"])
    with pytest.raises(
        TypeError, match=r"^save: layer 'swish': Own is not a layer of the library; .*load_state_dict"
    ) as caught:
        model.save(tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    save_file(model.state_dict(), tmp_path / "m.safetensors")  # as the line says
    again = nn.Sequential(nn.Linear(2, 2), Own(), names=["fc", "swish"], seed=1)
    again.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert again.parameter_buffer.tobytes() == model.parameter_buffer.tobytes()


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^save: Doubled defines __call__, which no file can describe; .*load_state_dict"):
        Doubled(nn.ReLU()).save(tmp_path / "m.safetensors")
    Renamed(nn.ReLU()).save(tmp_path / "m.safetensors")  # its layers say all
    assert type(fastlenet.load(tmp_path / "m.safetensors")) is nn.Sequential


# --- files without an architecture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_plain_state_dict(prefix: str, tmp_path: Path) -> None:
    """As older versions and PyTorch's users write them."""
    model = LeNet(5)
    save_file({f"{prefix}{name}": array for name, array in model.state_dict().items()}, tmp_path / "m.safetensors")
    with pytest.warns(UserWarning, match=r"m.safetensors: does not say how its images are normalised; taken as those of MNIST"):
        loaded = fastlenet.load(tmp_path / "m.safetensors")
    assert isinstance(loaded, LeNet) and loaded.parameter_buffer.tobytes() == model.parameter_buffer.tobytes()
    assert (loaded.mean, loaded.std, loaded.class_names) == (0.1307, 0.3081, tuple(range(10)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 36, 36)])
def test_a_plain_state_dict_of_other_images(shape: tuple[int, int, int], tmp_path: Path) -> None:
    save_file(LeNet(input_shape=shape, classes=26).state_dict(), tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors")
    assert isinstance(loaded, LeNet) and loaded.input_shape == shape and loaded.mean is None and loaded.class_names == ()


def test_a_plain_ensemble_and_a_chain(tmp_path: Path) -> None:
    both = {f"member{i}.{name}": array for i in range(2) for name, array in LeNet(i, classes=3).state_dict().items()}
    save_file(both, tmp_path / "m.safetensors")
    assert isinstance(fastlenet.load(tmp_path / "m.safetensors"), Ensemble)
    save_file(Chain((1, 2, 3)).state_dict(), tmp_path / "m.safetensors")
    assert isinstance(fastlenet.load(tmp_path / "m.safetensors"), Chain)


@pytest.mark.oracle
def test_weights_of_pytorch(tmp_path: Path, torch: Any) -> None:
    import safetensors.torch

    net = torch.nn.Module()
    for name, layer in {
        "conv1": torch.nn.Conv2d(1, 20, 5),
        "conv2": torch.nn.Conv2d(20, 50, 5),
        "fc1": torch.nn.Linear(800, 500),
        "fc2": torch.nn.Linear(500, 7),
    }.items():
        net.add_module(name, layer)
    safetensors.torch.save_file(net.to(torch.bfloat16).state_dict(), tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors")
    assert isinstance(loaded, LeNet)
    for name, tensor in net.state_dict().items():
        assert (loaded.state_dict()[name] == tensor.float().numpy()).all()


UNKNOWN = {
    "a Sequential of PyTorch": {"0.weight": (20, 1, 5, 5), "0.bias": (20,)},
    "a LeNet whose padding its shapes do not tell": LeNet(input_shape=(1, 8, 8)).state_dict(),
    "nothing": {},
    "fc1 not square": LeNet(input_shape=(1, 28, 32)).state_dict(),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_shapes_that_tell_no_architecture(name: str, tmp_path: Path) -> None:
    arrays = {key: np.zeros(getattr(value, "shape", value), np.float32) for key, value in UNKNOWN[name].items()}
    save_file(arrays, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "no architecture, and its shapes are not those of LeNet or Chain; build the model, .*")


# --- files from anywhere -------------------------------------------------------------------------------------------------


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(CheckpointError, match=pattern) as caught:
        fastlenet.load(path)
    line = str(caught.value)
    assert "\n" not in line and line.isprintable() and len(line) < 600 and str(path) in line


def changed(metadata: Metadata, change: Callable[[dict[str, Any]], object]) -> Metadata:
    architecture = json.loads(metadata["architecture"])
    change(architecture)
    return metadata | {"architecture": json.dumps(architecture)}


def layer(number: int, **settings: object) -> Callable[[Metadata], Metadata]:
    return lambda metadata: changed(metadata, lambda architecture: architecture["layers"][number].update(settings))


def words(**facts: str) -> Callable[[Metadata], Metadata]:
    return lambda metadata: metadata | facts


def small() -> nn.Sequential:
    layers = [nn.Conv2d(1, 2, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 12 * 12, 10)]
    return nn.Sequential(*layers, names=["conv1", "relu1", "pool1", "flatten", "fc"], input_shape=(1, 28, 28))


HOSTILE: dict[str, tuple[Callable[[Metadata], Metadata], str]] = {
    "no JSON": (words(architecture="{"), "architecture expects JSON"),
    "deep JSON": (words(architecture="[" * 100_000), "architecture expects JSON"),
    "code": (words(architecture="__import__('os').system('false')"), "architecture expects JSON"),
    "a list": (words(architecture="[]"), "architecture expects an object"),
    "no layers": (lambda m: changed(m, lambda a: a.pop("layers")), "architecture expects an object of network"),
    "layers a number": (lambda m: changed(m, lambda a: a.update(layers=3)), "layers expects a list"),
    "too many layers": (lambda m: changed(m, lambda a: a.update(layers=[1] * 20_000)), "layers expects a list of at most"),
    "a layer a word": (lambda m: changed(m, lambda a: a.update(layers=["ReLU"])), r"layers\[0\] expects an object"),
    "unknown network": (lambda m: changed(m, lambda a: a.update(network="os.system")), "network expects one of"),
    "a network's name a list": (lambda m: changed(m, lambda a: a.update(network=["x" * 999])), "network expects one of"),
    "wrong seed": (lambda m: changed(m, lambda a: a.update(seed=-1)), "seed expects an integer in 0"),
    "wrong algorithm": (lambda m: changed(m, lambda a: a.update(algorithm="eval")), "algorithm expects one of"),
    "unknown layer": (layer(0, layer="Conv3d"), r"layers\[0\].layer expects a layer of the library, .*did you mean Conv2d"),
    "the base class": (layer(0, layer="Layer"), r"layers\[0\].layer expects a layer of the library"),
    "a layer's name a number": (layer(0, name=7), r"layers\[0\].name expects a word"),
    "two layers of one name": (layer(1, name="conv1"), "names expects 5 different names"),
    "a name of lines": (layer(1, name="relu\n1\x1b[0m", layer="Conv2d"), r"layer 'relu\\n1\\x1b\[0m': Conv2d expects the arg"),
    "unknown argument": (layer(0, dilated=2), "layer 'conv1': Conv2d expects the arguments in_channels.*, got 'dilated'"),
    "missing argument": (layer(0, layer="Linear"), "Linear expects the arguments"),
    "zero size": (layer(0, in_channels=0), "layer 'conv1': Conv2d: in_channels expects a positive integer"),
    "huge size": (layer(4, out_features=2**31 - 1), "class_names|fc.bias expects shape"),
    "beyond all sizes": (layer(4, out_features=10**400), "out_features expects a positive integer"),
    "not a number": (layer(0, stride=[1, float("nan")]), "stride expects an int or a pair of ints"),
    "an object": (layer(0, kernel_size={"a": 1}), "kernel_size expects an int or a pair"),
    "layers that do not fit": (layer(4, in_features=289), "layer 'fc': an input expects shape"),
    "shape of nothing": (words(input_shape="[]"), "input_shape expects the shape of one example"),
    "shape of words": (words(input_shape='["a"]'), "input_shape expects"),
    "shape too large": (words(input_shape="[1, 9e99, 28]"), "input_shape expects"),
    "a shape for other layers": (words(input_shape="[3, 28, 28]"), "layer 'conv1': an input expects shape"),
    "mean alone": (words(mean="0.5"), "std expects a number beside mean, got None"),
    "NaN mean": (words(mean="NaN", std="1"), "mean expects a finite number, got nan"),
    "infinite std": (words(mean="0", std="Infinity"), "std expects a positive number, got inf"),
    "std of zero": (words(mean="0", std="0"), "std expects a positive number"),
    "std too small": (words(mean="0", std="1e-300"), "std expects a number that pixels can be divided by"),
    "a mean of lists": (words(mean="[[0]]", std="[1]"), r"mean\[0\] expects"),
    "means of other channels": (words(mean="[0, 0]", std="[1, 1]"), "mean expects a number for each of 1 channels"),
    "class names a word": (words(class_names='"ab"'), "class_names expects a tuple"),
    "class names of two kinds": (words(class_names='["a", 1]'), r"class_names\[1\] expects a word"),
    "class names that are lists": (words(class_names="[[1]]"), r"class_names\[0\] expects"),
    "too few class names": (words(class_names='["a"]'), "class_names expects a name for each of the model's outputs"),
    "the same class twice": (words(class_names=json.dumps(["a"] * 10)), "class_names expects a different name for each class"),
    "too many classes": (words(class_names=json.dumps([0] * 70_000)), "class_names expects at most 65,536 classes"),
    "a recipe that is a list": (words(recipe="[1]"), "recipe expects the fields of a recipe"),
    "a recipe of objects": (words(recipe='{"lr": {}}'), "recipe expects the fields of a recipe"),
    "a recipe with NaN": (words(recipe='{"lr": NaN}'), "recipe expects the fields of a recipe"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_description(case: str, tmp_path: Path) -> None:
    change, pattern = HOSTILE[case]
    path = tmp_path / "m.safetensors"
    small().save(path)
    save_file(load_file(path), path, change(metadata_of(path)))
    refused(path, f"^{path}: no model to load; .*({pattern})")


def test_sizes_that_the_file_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description of terabytes is refused by the shapes in the file, before an array is made."""
    path = tmp_path / "m.safetensors"
    model = nn.Sequential(nn.Linear(2, 3))
    model.save(path)
    huge = changed(metadata_of(path), lambda a: a["layers"][0].update(in_features=2**31 - 1, out_features=2**31 - 1))
    save_file(model.state_dict(), path, huge)
    monkeypatch.setattr(nn.Sequential, "__init__", lambda *args, **options: pytest.fail("a network was made"))
    refused(path, r"0.weight expects shape \(2147483647, 2147483647\), got \(3, 2\)")


def test_a_type_without_a_size(tmp_path: Path) -> None:
    """The sizes of a tensor of an unknown type are not checked against its shape, so its shape must not be believed."""
    shapes = {name: [array.shape[0] * 10**6, *array.shape[1:]] for name, array in LeNet().state_dict().items()}
    entries = {name: {"dtype": "F4", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps(entries).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(tmp_path / "m.safetensors", "is of type 'F4'")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    small().save(path)
    arrays = load_file(path)
    arrays["fc.bias"][3] = np.nan
    save_file(arrays, path, metadata_of(path))
    refused(path, "fc.bias holds a number that is not finite")
    broken = small()
    broken.parameter_buffer[7] = np.inf
    with pytest.raises(CheckpointError, match=r"not written; conv1.weight holds a number that is not finite"):
        broken.save(path)


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    fit(LeNet(), np.zeros((2, 28, 28)), [0, 9], epochs=1, verbose=0, checkpoint=tmp_path / "c.safetensors")
    refused(tmp_path / "c.safetensors", "a checkpoint of a run, not a model; fit")


# --- its layers, and what it tells ---------------------------------------------------------------------------------------


def test_layers_by_name_and_place() -> None:
    model = LeNet()
    assert len(model) == 10 and [*model] == [*model.layers]
    assert model["conv1"] is model[0] is model[-10] and model[np.int64(9)] is model["fc2"]
    with pytest.raises(KeyError, match="no layer 'convl'; did you mean 'conv2'"):
        model["convl"]
    with pytest.raises(IndexError, match="no layer 10; there are 10 layers"):
        model[10]
    with pytest.raises(TypeError, match=r"layer expects a name or a position, got 1.5"):
        model[1.5]  # type: ignore[index]
    assert nn.Sequential()  # true without layers too


def test_summary_without_a_shape() -> None:
    assert LeNet().summary() == LeNet().summary((1, 28, 28))
    with pytest.raises(ValueError, match=r"^summary: input_shape expects the shape of one example, got None; summary\(\(1, 28"):
        nn.Sequential(nn.ReLU()).summary()


def test_table_for_notebooks() -> None:
    html = LeNet()._repr_html_()
    assert "LeNet for 1x28x28" in html and "<td>20x24x24</td>" in html and html.count("<tr>") == 12
    assert "kernel_size" in nn.Sequential(nn.Conv2d(1, 2, 3), names=["<b>"])._repr_html_()
    assert "&lt;b&gt;" in nn.Sequential(nn.ReLU(), names=["<b>"])._repr_html_()


def test_facts_that_do_not_fit() -> None:
    model = LeNet()
    with pytest.raises(ValueError, match="class_names expects a name for each of the model's outputs"):
        model.set_facts(class_names=["a", "b"])
    with pytest.raises(ValueError, match="layer 'conv1': an input expects shape"):
        model.set_facts(input_shape=(3, 28, 28))
    assert model.facts == LeNet().facts
    model.set_facts(class_names=np.arange(10, 20))
    assert model.class_names == tuple(range(10, 20)) and {*map(type, model.class_names)} == {int}
    model.set_facts(mean=0.5, std=[0.25], class_names=np.array(list("abcdefghij")))
    assert (model.mean, model.std, model.class_names[1], model.input_shape) == (0.5, 0.25, "b", (1, 28, 28))
