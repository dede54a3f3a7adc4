"""Writes the valid files of the corpus anew: python tests/fuzzing/make_corpus.py. The minimised inputs beside them stay."""

from __future__ import annotations

import gzip
import io
import json
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fastlenet import Chain
from fastlenet.distributed.results import Results
from fastlenet.distributed.task import Outcome
from fastlenet.formats import keras
from fastlenet.training.history import Epoch
from fastlenet.training.recipe import Recipe
from fuzzing.readers import CORPUS, READERS, small_network, small_run
from helpers import small_files, torch_files
from helpers.networks import NETWORKS, some_images

KERAS = Path(__file__).resolve().parents[1] / "formats" / "files"


def written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def idx(*dims: int) -> bytes:
    header = bytes([0, 0, 8, len(dims)]) + b"".join(dim.to_bytes(4, "big") for dim in dims)
    return header + bytes(range(256))[: int(np.prod(dims))]


def archive(**arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def packed(content: bytes) -> bytes:
    """The members of an archive, compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED)
    return made.getvalue()


def outcome(seed: int, **changes: object) -> Outcome:
    values = {
        **{"recipe": Recipe(seed=seed, epochs=1), "accuracy": 0.5, "loss": 1.5, "training_loss": 1.25, "diverged": ""},
        **{"seconds": {"training": 1.0}, "epochs": ({"epoch": 1, "loss": 1.5},), "host": "host", "pid": 7, "cpu": "CPU"},
        **{"threads": 1, "version": "0.1.0", "level": "x86-64-v4"},
    }
    return Outcome(**values | changes)  # type: ignore[arg-type]


def runs() -> bytes:
    kept = Results({"data": "x"}, notes={"space": {"trials": 2}})
    for each in (outcome(0), outcome(1, accuracy=None, loss=None, diverged="the loss is nan"), outcome(2, weights=b"1234")):
        kept.append(each, trial=each.seed)
    return written(kept.save, "runs.jsonl")


def log() -> bytes:
    epochs = [Epoch(number, 0.5, 0.75, 0.4, 0.9, 0.01, 1.5) for number in (1, 2)]
    lines = [json.dumps({"seed": 0, **asdict(epoch)}) for epoch in epochs]
    return "\n".join([*lines, json.dumps({"seed": 1, **asdict(epochs[0]), "val_loss": None})]).encode() + b"\n"


def speedrun() -> bytes:
    runs = [{"seed": seed, "accuracy": accuracy, "seconds": 4.5} for seed, accuracy in enumerate((0.9944, 0.9946))]
    entry = {"accuracy_mean": 0.9945, "accuracy_deviation": statistics.stdev((0.9944, 0.9946)), "accuracy_lowest": 0.9944}
    entry |= {"share_at_target": 1.0, "median": {"seconds": 4.5}}
    recipe, machine = {"name": "x", "epochs": 1, "tta": True}, {"cpu": "a", "cpus": 2, "threads": 2}
    result = {"command": "x", "way": "cold processes", "members": 2, "teacher": {"command": "y", "seconds": 1}}
    result |= {"machine": machine, "recipe": recipe, "target": 0.9925, "results": {"ours": {**entry, "runs": runs}}}
    return json.dumps(result).encode()


def pictures() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    images = {
        "gray": Image.fromarray(gray),
        "color": Image.fromarray(np.stack([gray, gray.T, gray[::-1]], 2)),
        "alpha": Image.fromarray(np.stack([gray] * 4, 2)),
        "palette": Image.fromarray(gray).convert("P"),
        "bits": Image.fromarray(gray > 30),
        "wide": Image.fromarray(gray.astype(np.uint16) * 900),
    }
    for name, image in images.items():
        for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
            made = io.BytesIO()
            try:
                image.save(made, kind)
            except (OSError, KeyError, ValueError):
                continue  # a kind without such pixels
            if kind == "png" or name in ("gray", "alpha"):
                yield f"{name}.{kind}", made.getvalue()


SPACE = {
    **{"recipe": "default", "trials": 3, "seeds": 2, "validation": 100, "sampler": "random", "halving": 2},
    "fields": {
        "lr": {"low": 0.01, "high": 0.2, "log": True},
        "batch_size": [16, 32],
        "momentum": {"low": 0.1, "high": 0.9, "step": 0.3},
    },
    "trial": [{"lr": 0.1}],
}
TOML = b"""trials = 3
sampler = "grid"
[fields]
lr = [0.05, 0.1]
epochs = {low = 1, high = 9, step = 2}
[[trial]]
lr = 0.2
"""


def contents() -> Iterator[tuple[str, str, bytes]]:
    """The reader, the name of each file and its bytes."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (4, 3, 3), np.uint8), np.array([0, 1, 0, 1], np.uint8)
    for name, content in {"three": idx(2, 3, 4), "one": idx(5), "none": idx(0, 3, 4)}.items():
        yield "idx", name, content
        yield "idx_gzip", name, gzip.compress(content, mtime=0)
    rows = [f"{label},{','.join(map(str, image.ravel()))}" for label, image in zip(labels, images, strict=True)]
    head = "label," + ",".join(f"pixel{n}" for n in range(9))
    yield "csv", "headed", "\n".join([head, *rows]).encode() + b"\n"
    yield "csv", "plain", "\n".join(rows).encode()
    yield "csv", "words", "\n".join(['"a",0,0.5,1,0.25', "b,1,1,0,0"]).encode()
    yield "npz_data", "keras", archive(x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    yield "npz_data", "words", archive(X=images, y=np.array(["a", "b", "a", "b"]))
    yield "npz_data", "packed", packed(archive(train_images=images, train_labels=labels[:, None]))
    yield "cifar", "one", bytes([3, 7]) + bytes(3072)
    yield "cifar_names", "names", "\n".join(f"name{number}" for number in range(100)).encode()
    for name, content in pictures():
        yield "picture", name, content
        if not name.endswith(("bmp", "tiff")):
            yield "folder", name, content
    run = small_run()
    run.run()
    yield "state", "end", written(run.save, "state.safetensors")
    yield "state", "start", written(small_run().save, "state.safetensors")
    yield "model", "network", written(Chain((1, 2, 3)).save, "model.safetensors")
    yield "model", "sequential", written(small_network().save, "model.safetensors")
    for name in ("colours, strides, padding", "a maximum first", "a mean first, no bias", "oblong", "one layer", "no weights"):
        network = NETWORKS[name]()
        quantized = network.quantize(some_images(network, 20))
        yield "quantized", name.split(",")[0].replace(" ", "_"), written(quantized.save, "int8.safetensors")
    state = Chain((1, 2, 3)).state_dict()
    yield "pytorch", "archive", written(lambda path: torch_files.save(path, state), "model.pt")
    yield "pytorch", "old", written(lambda path: torch_files.save_old(path, state), "model.pt")
    arrays = small_network().state_dict()
    yield "npz", "plain", archive(**arrays)
    yield "npz", "packed", packed(archive(**{name: np.asfortranarray(array) for name, array in arrays.items()}))
    yield "caffe", "network", written(small_files.caffe, "model.caffemodel")
    yield "onnx", "network", written(small_files.onnx, "model.onnx")
    for name in ("keras3_nested.keras", "keras2_nested.h5", "keras3_nested.h5"):
        content = (KERAS / name).read_bytes()
        if len(content) <= READERS["keras"].longest:
            yield "keras", name, content
        if name.endswith(".h5"):
            yield "keras_answer", name, keras._run(content)
    yield "results", "runs", runs()
    yield "results_resumed", "runs", runs()
    yield "log", "two", log()
    yield "speedrun", "two", speedrun()
    yield "space_json", "all", json.dumps(SPACE).encode()
    yield "space_toml", "grid", TOML
    made = io.BytesIO()
    np.save(made, np.ones(5))
    yield "weights_npy", "five", made.getvalue()
    yield "weights_text", "five", b"1\n0.5\n2e-1\n# three\n0\n"


def main() -> None:
    for reader, name, content in contents():
        folder = CORPUS / reader
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
