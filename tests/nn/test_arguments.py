"""Wrong arguments of networks, layers and optimizers: one line that names the argument or the layer, and what was expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import Augmentation, Chain, LeNet, fit, nn, ops, optim, reference, set_num_threads
from fastlenet.data import Dataset
from fastlenet.optim import SGD, Adam, AdamW, Muon, Optimizer

Wrong = tuple[Callable[[], Any], str]

TINY = nn.Sequential(nn.Linear(2, 1))
PLAIN = nn.Sequential(nn.Flatten())
BACKWARD = LeNet()
BACKWARD(np.zeros((2, 1, 28, 28), np.float32))
IMAGES, LABELS = np.zeros((9, 28, 28), np.uint8), np.zeros(9, np.uint8)
DATA = Dataset("black", IMAGES, LABELS, IMAGES, LABELS, 10, 0.1, 0.3)
NAN = float("nan")
HUGE = 10**400


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def each(function: Callable[..., Any], name: str, values: list[Any], **others: Any) -> list[Wrong]:
    """Calls with each of the wrong values for that argument; the error names it."""
    return [(lambda value=value: function(**others, **{name: value}), rf"\b{name}\b.* expects .*, got ") for value in values]


NOT_A_SIZE = [0, -1, 1.0, "1", None, True, 2**31, HUGE, [1], NAN]
NOT_A_PAIR = [
    -1,
    1.0,
    "same",
    "valid",
    True,
    (1,),
    (1, 2, 3),
    (1, -1),
    (1, "2"),
    (1.0, 1),
    (True, 1),
    {1: 1},
    2**31,
    HUGE,
    np.ones(2),
]
NO_PADDING = [value for value in NOT_A_PAIR if not isinstance(value, str)]
UNSUPPORTED = [0, 2, (1, 2), [2, 2], "1", None, 1.5, np.ones(2)]
NOT_A_FLAG = [None, "yes", 1, 0.0, np.ones(2)]
NOT_A_PROBABILITY = [-0.1, 1.0, NAN, "x", None, True, [0.5], np.ones(2), HUGE]
NOT_A_RATE = [-1, NAN, float("inf"), None, "0.1", True, [0.1], np.ones(2), HUGE, 1j]
NOT_A_SEED = [-1, 2**64, 1.0, "1", None, True, HUGE]
NOT_A_BACKEND = [None, "fastlenet.ops", np, ModuleType("empty")]
NOT_A_MODEL = [None, "model", nn.ReLU(), [nn.ReLU()], np.zeros(3), LeNet, LeNet().freeze()]


def of_model(call: Callable[[Any], Any], more_dtypes: tuple[Any, ...] = (np.float64,)) -> list[Wrong]:
    """Inputs that LeNet does not take."""
    shaped = r"^layer '{}': x expects shape \(n, {}\), got {}$"
    shapes = [
        ((28, 28), "conv1", "1, h, w", r"\(28, 28\)"),
        ((1, 28, 28), "conv1", "1, h, w", r"\(1, 28, 28\)"),
        ((1, 28, 28, 1), "conv1", "1, h, w", r"\(1, 28, 28, 1\)"),
        ((1, 3, 28, 28), "conv1", "1, h, w", r"\(1, 3, 28, 28\)"),
        ((1, 0, 28, 28), "conv1", "1, h, w", r"\(1, 0, 28, 28\)"),
        ((2, 1, 1, 28, 28), "conv1", "1, h, w", r"\(2, 1, 1, 28, 28\)"),
        ((784,), "conv1", "1, h, w", r"\(784,\)"),
        ((0,), "conv1", "1, h, w", r"\(0,\)"),
        ((1, 1, 0, 28), "conv1", "1, h >= 6, w >= 6", r"\(1, 1, 0, 28\)"),
        ((1, 1, 28, 4), "conv1", "1, h >= 6, w >= 6", r"\(1, 1, 28, 4\)"),
        ((1, 1, 5, 5), "conv1", "1, h >= 6, w >= 6", r"\(1, 1, 5, 5\)"),
        ((1, 1, 8, 8), "conv2", "20, h >= 6, w >= 6", r"\(1, 20, 2, 2\)"),
        ((1, 1, 32, 32), "fc1", "800", r"\(1, 1250\)"),
        ((5, 1, 27, 30), "fc1", "800", r"\(5, 600\)"),
    ]
    wrong = [(lambda shape=shape: call(zeros(*shape)), shaped.format(layer, *rest)) for shape, layer, *rest in shapes]
    dtypes = [*more_dtypes, np.uint8, np.int64, np.float16, bool, complex, object]
    wrong += [
        (
            lambda dtype=dtype: call(zeros(1, 1, 28, 28, dtype=dtype)),
            rf"^layer 'conv1': .*x expects .*float32.*, got {np.dtype(dtype)}",
        )
        for dtype in dtypes
    ]
    others = [None, "image", 3, 3.0, [], [[0.0] * 28] * 28, np.float32(3), zeros(), object()]
    return wrong + [(lambda other=other: call(other), r"^x expects an array of float32, .*, got ") for other in others]


def of_state(load: Callable[[Any], Any], what: str) -> list[Wrong]:
    good = LeNet().state_dict()
    changes: list[tuple[Any, str]] = [
        (None, "fc2.bias expects"),
        ("words", "fc2.bias expects"),
        ([[1.0], [1.0, 2.0]], "fc2.bias expects"),
        (np.zeros(11), r"fc2.bias expects shape \(10,\), got \(11,\)"),
        (np.zeros(10, int), "fc2.bias expects floats, got int64"),
        (np.zeros(10, complex), "fc2.bias expects floats, got complex128"),
        (np.full(10, np.nan, np.float32), "fc2.bias holds a number that is not finite"),
        (np.full(10, np.inf), "fc2.bias holds a number that is not finite"),
        (np.full(10, 1e300), "fc2.bias holds a number that is too large for float32"),
    ]
    rows = [(lambda value=value: load({**good, "fc2.bias": value}), rf"^{what}: {text}") for value, text in changes]
    rows += [
        (lambda other=other: load(other), rf"^{what}: state expects a mapping") for other in (None, [], "file", np.zeros(3), 5)
    ]
    return [*rows, (lambda: load({}), "is missing"), (lambda: load({**good, 3: np.zeros(1)}), "3 is unexpected")]


def of_optimizer_state(load: Callable[[Any], Any]) -> list[Wrong]:
    good = {"velocity": zeros(3), "steps": np.zeros(1, np.int64)}
    changes: list[dict[str, Any]] = [
        {"velocity": zeros(4)},
        {"velocity": None},
        {"velocity": [0.0, 0.0, 0.0]},
        {"velocity": np.zeros(3)},
        {"velocity": np.full(3, np.nan, np.float32)},
        {"steps": 3},
        {"steps": np.zeros(1)},
        {"steps": np.full(1, -1)},
        {"more": zeros(3)},
    ]
    rows = [(lambda change=change: load(good | change), rf"SGD: .*{next(iter(change))}") for change in changes]
    return rows + [(lambda other=other: load(other), "SGD: state expects a mapping") for other in (None, [], "file", 3)]


def of_backward() -> list[Wrong]:
    shape = r"^backward: dy expects (an array of )?shape \(2, 10\), as the output, got "
    wrong: list[Any] = [None, 1.0, "dy", [[0.0] * 10] * 2, zeros(10), zeros(10, 2), zeros(2, 10, 1), zeros(3, 10), zeros()]
    rows = [(lambda dy=dy: BACKWARD.backward(dy), shape) for dy in wrong]
    for dtype in (np.float64, np.int64, object):
        rows.append(
            (lambda dtype=dtype: BACKWARD.backward(zeros(2, 10, dtype=dtype)), "^layer 'fc2': .*dy expects .*float32, got")
        )
    return rows


def of_optimizer(make: Callable[..., Any], **rates: list[Any]) -> list[Wrong]:
    rows = each(make, "model", NOT_A_MODEL)
    for name, values in ({"lr": NOT_A_RATE, "weight_decay": NOT_A_RATE} | rates).items():
        rows += each(make, name, values, model=TINY)
    return rows


def of_step(optimizer: Optimizer, op: str) -> list[Wrong]:
    rows = [
        (lambda average=average: optimizer.step(average, 0.5), f"^{op}: average expects .*, got|^{op}: average must not share")
        for average in (0.5, "mean", [0.0], zeros(1), np.zeros(TINY.parameter_buffer.shape), TINY.parameter_buffer)
    ]
    buffer = np.zeros_like(TINY.parameter_buffer)
    return [*rows, *((lambda decay=decay: optimizer.step(buffer, decay), f"^{op}: decay expects") for decay in (None, "0.5"))]


def of_summary() -> list[Wrong]:
    misfits = {
        (28, 28): "conv1",
        (1, 28, 28, 1): "conv1",
        (1, 4, 28): "conv1",
        (1, 8, 8): "conv2",
        (1, 32, 32): "fc1",
    }
    rows = [
        (lambda shape=shape: LeNet().summary(shape), rf"^summary: layer '{name}': .* got ") for shape, name in misfits.items()
    ]
    others: list[Any] = [(1, -28, 28), (1, 28.0, 28), (0, 28, 28), "abc", 28, (), (1, 28, "28"), (True, 28, 28)]
    rows.append((lambda: TINY.summary(), r"^summary: input_shape expects the shape of one example, got None; summary\("))
    return rows + [(lambda other=other: LeNet().summary(other), r"^summary: input_shape expects .* got ") for other in others]


def of_chain_data(call: Callable[..., Any]) -> list[Wrong]:
    """x and y of a Chain."""
    wrong: list[Any] = [None, "x", ["1"], [1j], [[1.0], [1.0, 2.0]], {}, [None]]
    rows = [(lambda value=value: call(value, [1.0]), "^Chain: x expects numbers, got") for value in wrong]
    rows += [(lambda value=value: call([1.0], value), "^Chain: y expects numbers, got") for value in wrong]
    return [*rows, (lambda: call([1.0, 2.0], [1.0]), r"^Chain: y expects shape \(2,\), as x, got \(1,\)")]


def alone(call: Callable[[Any], Any]) -> list[Wrong]:
    """x of a Chain without y."""
    return [row for row in of_chain_data(lambda x, y: call(x)) if " x expects" in row[1]]


CHAIN = Chain()
ENSEMBLE = fastlenet.Ensemble([LeNet()])
LAYERS = [nn.ReLU()]

# A public callable, as Class or Class.method -> calls that are wrong, each with what its error says.
ROWS: dict[str, list[Wrong]] = {
    "set_num_threads": each(set_num_threads, "count", [0, -1, 4097, 1.0, "2", None, True, HUGE]),
    "fit": each(fit, "model", NOT_A_MODEL, data=DATA) + each(fit, "data", [None, "MNIST", zeros(3, 28, 28)], model=LeNet()),
    "Augmentation": each(Augmentation, "shift", [-1, 0.5, "1"]) + each(Augmentation, "scale", [1.0, NAN, "x", None]),
    "Augmentation.at": each(Augmentation().at, "epoch", [-1, 2**32, 0.5, "1", None], seed=0)
    + each(Augmentation().at, "seed", [0.5, "1", None], epoch=0),
    "Recipe": each(fastlenet.Recipe, "epochs", [-1, 0.5, "1", None]),
    "LeNet": [
        *each(LeNet, "seed", NOT_A_SEED),
        *each(LeNet, "classes", NOT_A_SIZE),
        *each(LeNet, "dropout", NOT_A_PROBABILITY),
        *each(LeNet, "dropout_fc1", NOT_A_PROBABILITY),
        *each(LeNet, "ops", NOT_A_BACKEND),
        *each(LeNet, "algorithm", ["fft", None, 1, "Direct", ["direct"]]),
    ],
    "LeNet.of": [
        *each(LeNet.of, "recipe", [None, "default", {}, LeNet]),
        *each(LeNet.of, "classes", NOT_A_SIZE, recipe=fastlenet.Recipe()),
    ],
    "Chain": [
        *each(
            Chain,
            "weights",
            [None, 1.0, [1.0, 2.0], [[1.0, 2.0, 3.0]], "123", [1, 2, "3"], [1, 2, NAN], [1, 2, 3j], [1, [2], 3]],
        ),
        *each(Chain, "ops", NOT_A_BACKEND),
    ],
    "Chain.__call__": alone(CHAIN),
    "Chain.closed_form_gradients": alone(CHAIN.closed_form_gradients),
    "Chain.loss": of_chain_data(CHAIN.loss),
    "Chain.loss_gradient": of_chain_data(CHAIN.loss_gradient),
    "Chain.gradient_step": [
        *of_chain_data(lambda x, y: CHAIN.gradient_step(x, y, 0.1)),
        *each(CHAIN.gradient_step, "rate", [None, "0.1", NAN, float("inf"), True, [0.1], HUGE], x=[1], y=[1]),
    ],
    "Chain.fit": [
        *of_chain_data(lambda x, y: CHAIN.fit(x, y, 0.1, 1)),
        *each(CHAIN.fit, "rate", [None, "0.1", NAN], x=[1], y=[1], steps=1),
        *each(CHAIN.fit, "steps", [None, "1", 1.0, -1, True], x=[1], y=[1], rate=0.1),
        *each(CHAIN.fit, "progress", [1, "print"], x=[1], y=[1], rate=0.1, steps=1),
    ],
    "Conv2d": [
        *each(nn.Conv2d, "in_channels", NOT_A_SIZE, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "out_channels", NOT_A_SIZE, in_channels=1, kernel_size=1),
        *each(nn.Conv2d, "kernel_size", [0, (0, 1), *NOT_A_PAIR], in_channels=1, out_channels=1),
        *each(nn.Conv2d, "stride", [0, None, *NOT_A_PAIR], in_channels=1, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "padding", [None, "full", "SAME", *NO_PADDING], in_channels=1, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "bias", NOT_A_FLAG, in_channels=1, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "dilation", UNSUPPORTED, in_channels=1, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "groups", UNSUPPORTED, in_channels=1, out_channels=1, kernel_size=1),
        *each(nn.Conv2d, "padding_mode", ["reflect", 0, None], in_channels=1, out_channels=1, kernel_size=1),
        (lambda: nn.Conv2d(1, 1, 3, dilation=2), "dilation expects 1, got 2; the arguments that can be set are in_channels, "),
        (lambda: nn.Conv2d(1, 1, 3, 2, "same"), r"padding 'same' expects stride 1, got \(2, 2\)"),
        (lambda: nn.Conv2d(1, 1, (3, 2), padding="same"), r"'same' expects odd sizes of kernel_size, got \(3, 2\)"),
        (lambda: nn.Conv2d(1, 1), "kernel_size"),
    ],
    "AvgPool2d": [
        *each(nn.AvgPool2d, "kernel_size", [0, None, *NOT_A_PAIR]),
        *each(nn.AvgPool2d, "stride", [0, *NOT_A_PAIR], kernel_size=2),
        *each(nn.AvgPool2d, "padding", [2, (1, 2), None, *NOT_A_PAIR], kernel_size=(3, 2)),
        *each(nn.AvgPool2d, "ceil_mode", [True, 1, None], kernel_size=2),
        *each(nn.AvgPool2d, "count_include_pad", [False, 0, None], kernel_size=2),
        *each(nn.AvgPool2d, "divisor_override", [4, True], kernel_size=2),
    ],
    "LeakyReLU": each(nn.LeakyReLU, "slope", [-0.01, float("inf"), float("nan"), 1e39, "0.1", None, True]),
    "MaxPool2d": [
        *each(nn.MaxPool2d, "kernel_size", [0, None, *NOT_A_PAIR]),
        *each(nn.MaxPool2d, "stride", [0, *NOT_A_PAIR], kernel_size=2),
        *each(nn.MaxPool2d, "padding", [2, (1, 2), None, *NOT_A_PAIR], kernel_size=(3, 2)),
        *each(nn.MaxPool2d, "dilation", UNSUPPORTED, kernel_size=2),
        *each(nn.MaxPool2d, "return_indices", [True, 1, None], kernel_size=2),
        *each(nn.MaxPool2d, "ceil_mode", [True, 1, None], kernel_size=2),
        (
            lambda: nn.MaxPool2d(2, ceil_mode=True),
            "the arguments that can be set are kernel_size, stride and padding",
        ),
    ],
    "Linear": [
        *each(nn.Linear, "in_features", NOT_A_SIZE, out_features=1),
        *each(nn.Linear, "out_features", NOT_A_SIZE, in_features=1),
        *each(nn.Linear, "bias", NOT_A_FLAG, in_features=1, out_features=1),
    ],
    "Dropout": each(nn.Dropout, "p", NOT_A_PROBABILITY),
    "Sequential": [
        (lambda: nn.Sequential(LAYERS), r"layers expects nn layers, got list; unpack it: Sequential\(\*layers\)"),
        *(
            (lambda layer=layer: nn.Sequential(layer), "layers expects nn layers, got")
            for layer in (None, "ReLU", nn.ReLU, np.tanh, TINY)
        ),
        *(
            (lambda names=names: nn.Sequential(nn.ReLU(), names=names), "names expects")
            for names in ([], ["a", "b"], "a", 1, [1], {"a"})
        ),
        (lambda: nn.Sequential(nn.ReLU(), nn.ReLU(), names=["a", "a"]), "names expects 2 different names"),
        *each(nn.Sequential, "seed", NOT_A_SEED),
        *each(nn.Sequential, "ops", NOT_A_BACKEND),
        *each(nn.Sequential, "algorithm", ["fft", None, 1]),
        *each(nn.Sequential, "input_shape", ["28", 28, (), (0, 28, 28), (1, 28.0, 28), [1] * 9]),
    ],
    "Sequential.save": [(lambda: TINY.save("nowhere/m.safetensors"), "^nowhere/m.safetensors: .*no such|nowhere")],
    "Sequential.predict": [(lambda: LeNet().predict(None), "^predict: images expects images .* got NoneType")],
    "Sequential.predict_proba": [(lambda: LeNet().predict_proba("x"), "^predict_proba: images expects images .* got str")],
    "Sequential.evaluate": [(lambda: LeNet().evaluate(zeros(1, 28, 28)), "^evaluate: labels expects a label for each image")],
    "Sequential.activations": [(lambda: LeNet().activations(None), "^activations: images expects images .* got NoneType")],
    "Sequential.quantize": [
        (lambda: LeNet.pretrained().quantize(None), "^quantize: images expects images .* got NoneType"),
        (lambda: LeNet().quantize(zeros(3, 28, 28)), "^quantize: the model does not know how its images are normalised"),
        (lambda: TINY.quantize(zeros(3, 2)), "^quantize: the model does not know the shape of its images"),
    ],
    "export": [
        *each(fastlenet.export, "model", NOT_A_MODEL, path="m.onnx"),
        *each(fastlenet.export, "int8", NOT_A_FLAG, model=LeNet.pretrained(), path="m.onnx"),
        (
            lambda: fastlenet.export(LeNet.pretrained(), "m.foo"),
            r"^m\.foo: the name of an exported file expects one of the endings",
        ),
    ],
    "Sequential.set_facts": [
        *each(TINY.set_facts, "input_shape", [28, "28", (), (2.0,)]),
        (lambda: TINY.set_facts(input_shape=(3,)), r"^layer '0': an input expects shape \(2\), got \(3,\)$"),
        *each(TINY.set_facts, "mean", [NAN, "0", float("inf"), [None], True], std=1.0),
        *each(TINY.set_facts, "std", [0, -1, NAN, 1e-300, "1", None], mean=0.0),
        *each(TINY.set_facts, "class_names", [3, "ab", [1.0], ["a", 1], ["a", "a"], [None]]),
    ],
    "Ensemble": each(fastlenet.Ensemble, "members", [[], [None], [LeNet(), TINY], [LeNet(), LeNet(classes=3)]]),
    "Ensemble.predict": [(lambda: ENSEMBLE.predict(None), "^predict: images expects images .* got NoneType")],
    "Ensemble.predict_proba": [(lambda: ENSEMBLE.predict_proba("x"), "^predict_proba: images expects images .* got str")],
    "Ensemble.evaluate": [(lambda: ENSEMBLE.evaluate(zeros(1, 28, 28)), "^evaluate: labels expects a label for each image")],
    "Ensemble.save": [(lambda: fastlenet.Ensemble([TINY]).save("nowhere/m.safetensors"), "nowhere")],
    "LeNet.pretrained": each(LeNet.pretrained, "ops", NOT_A_BACKEND) + each(LeNet.pretrained, "algorithm", ["fft", None, 1]),
    "load": [(lambda: fastlenet.load("nowhere.safetensors"), "^nowhere.safetensors: no such file$")],
    "Sequential.__call__": [
        *of_model(LeNet()),
        *of_model(LeNet().eval()),
        *of_model(LeNet(ops=reference), ()),
        *of_model(LeNet(dropout=0.5, dropout_fc1=0.5)),
        *(
            (lambda x=x: TINY(x), r"^layer '0': x expects shape \(n, 2\), got ")
            for x in (zeros(2), zeros(1, 3), zeros(1, 2, 1), zeros(1, 0))
        ),
        *((lambda x=x: PLAIN(x), "^x expects an array of float32") for x in (None, [1.0], zeros(), 3.0)),
    ],
    "Sequential.backward": of_backward(),
    "Sequential.load_state_dict": of_state(LeNet().load_state_dict, "load_state_dict"),
    "Sequential.summary": of_summary(),
    "Frozen.__call__": of_model(LeNet().freeze()),
    "Conv2d.output_shape": [(lambda: nn.Conv2d(1, 2, 3).output_shape((28, 28)), r"expects shape \(1, h, w\), got \(28, 28\)")],
    "Conv2d.multiply_adds": [(lambda: nn.Conv2d(1, 2, 3).multiply_adds((1, 2, 3)), r"h >= 3, w >= 3\), got \(1, 2, 3\)")],
    "AvgPool2d.output_shape": [
        (lambda: nn.AvgPool2d(3, padding=1).output_shape((5, 0, 3)), r"\(c, h >= 1, w >= 1\), got \(5, 0, 3\)")
    ],
    "MaxPool2d.output_shape": [
        (lambda: nn.MaxPool2d(3, padding=1).output_shape((5, 0, 3)), r"\(c, h >= 1, w >= 1\), got \(5, 0, 3\)")
    ],
    "Linear.output_shape": [(lambda: nn.Linear(4, 2).output_shape((2, 2)), r"expects shape \(4\), got \(2, 2\)")],
    "SGD": of_optimizer(SGD, momentum=NOT_A_RATE, nesterov=[*NOT_A_FLAG, True]),
    "AdamW": of_optimizer(
        AdamW, eps=NOT_A_RATE, betas=[None, 0.9, (0.9,), (0.9, 0.99, 0.999), "ab", (0.9, 1.0), (0.9, None), (-0.1, 0.9)]
    ),
    "Adam": of_optimizer(Adam, eps=NOT_A_RATE, betas=[None, 0.9, (0.9, 1.0)]),
    "Muon": of_optimizer(Muon, momentum=[0, *NOT_A_RATE], matrix_lr=NOT_A_RATE, nesterov=NOT_A_FLAG),
    "SGD.step": of_step(SGD(TINY), "sgd_step"),
    "AdamW.step": of_step(AdamW(TINY), "adam_step"),
    "Adam.step": of_step(Adam(TINY), "adam_step"),
    "Muon.step": of_step(Muon(TINY), "muon_step"),
    "Optimizer": each(Optimizer, "model", NOT_A_MODEL, lr=0.1, weight_decay=0.0),
    "Optimizer.load_state_dict": of_optimizer_state(SGD(TINY, momentum=0.9).load_state_dict),
    "Optimizer.expect_state": of_optimizer_state(SGD(TINY, momentum=0.9).expect_state),
    "AdamW.expect_state": [(lambda: AdamW(TINY).expect_state({}), "AdamW: state")],
}

# What Sequential calls, with a Pass (and a run, the methods of callbacks), and what takes any shape.
INNER = {"forward", "backward", "pack"}
ELSEWHERE = {
    "Report": "what report returns",
    "Report.save": "tests/reports",
    "report": "tests/reports",
    "Page": "what predict_page returns",
    "Prediction": "what predict_image returns",
    "predict_image": "tests/images",
    "predict_page": "tests/images",
    "Layer.output_shape": "takes any shape",
    "Layer.multiply_adds": "takes any shape",
    "Flatten.output_shape": "takes any shape",
    "Linear.multiply_adds": "takes any shape",
    "Frozen": "made by Sequential.freeze",
    "Sequential.note_forward_pass": "test_host_step.py",
    "Sequential.training_pass": "test_host_step.py",
    "EarlyStopping": "test_early_stopping.py",
    "Optimizer.zero_grad": "does nothing",
    "Optimizer.step": "each optimizer has its own",
    "Recipe.rate": "test_recipe.py",
    "Recipe.batch_starts": "test_recipe.py",
    "Recipe.average_from": "test_recipe.py",
    "Recipe.augmentation_for": "test_recipe.py",
    "Recipe.transforms": "test_recipe.py",
    "Ensemble.weighted": "test_weighted_ensemble.py",
}


def own_members(kind: type) -> list[tuple[str, object]]:
    """Those of a class and of its bases, up to the first public one, which has its own rows here."""
    public = {*fastlenet.__all__, *nn.__all__, *optim.__all__, "object"}
    bases = takewhile(lambda base: base is kind or base.__name__ not in public, kind.__mro__)
    return [item for base in bases for item in vars(base).items()]


def public_callables() -> Iterator[str]:
    """Those that take arguments, of the package, of nn and of optim."""
    for module in (fastlenet, nn, optim):
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.ismodule(found) or not callable(found):
                continue
            if inspect.signature(found).parameters:
                yield found.__name__
            for method, member in own_members(found) if inspect.isclass(found) else ():
                function = getattr(member, "__func__", member)
                named = method == "__call__" or not method.startswith("_")
                inner = (issubclass(found, nn.Layer) and method in INNER) or issubclass(found, fastlenet.Callback)
                if named and not inner and inspect.isfunction(function) and len(inspect.signature(function).parameters) > 1:
                    yield f"{found.__name__}.{method}"


def test_every_public_callable_has_its_wrong_arguments() -> None:
    names = set(public_callables())
    assert len(names) > 30 and names == ROWS.keys() | ELSEWHERE.keys()


# What an error says that comes from Python or NumPy, far from the argument.
FOREIGN = re.compile(
    r"zip\(\)|'NoneType' object|negative dimensions|to unpack|has no attribute|unsupported operand|not supported between"
    r"|has no len|could not convert|must be real number|cannot be interpreted|not iterable|not subscriptable"
    r"|broadcast|inhomogeneous|incompatible function arguments|unsized object"
)


@pytest.mark.parametrize("name", ROWS)
def test_wrong_arguments(name: str) -> None:
    told = []
    for call, expected in ROWS[name]:
        with pytest.raises((TypeError, ValueError)) as raised:
            call()
        told.append((expected, str(raised.value)))
    assert told
    assert not [
        (expected, text) for expected, text in told if not re.search(expected, text) or "\n" in text or FOREIGN.search(text)
    ]


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint64(3), np.int8(3)])
def test_numpy_integers_are_integers(value: Any) -> None:
    model = LeNet(value, classes=value)
    assert type(model.seed) is int and model.parameter_buffer.tobytes() == LeNet(3, classes=3).parameter_buffer.tobytes()
    assert repr(nn.Conv2d(value, value, value, (value, value), [value, 1])) == repr(nn.Conv2d(3, 3, 3, 3, (3, 1)))
    assert nn.Linear(value, value).shapes() == nn.Linear(3, 3).shapes()
    assert ops.max_pool2d_forward(zeros(1, 1, 6, 6), value)[0].shape == (1, 1, 2, 2)


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), np.float64(0.25)])
def test_numpy_floats_are_floats(value: Any) -> None:
    for optimizer in (
        SGD(TINY, value, value, True, value),
        AdamW(TINY, value, (value, value), value),
        Muon(TINY, value, value),
    ):
        assert type(optimizer.lr) is float and optimizer.lr == 0.25
    assert type(nn.Dropout(value).p) is float
