"""softmax_cross_entropy, softmax_squared_error, softmax_distillation and squared_error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import SupportsFloat

import numpy as np

from fastlenet.testing.cases import SHAPES, Elements
from fastlenet.testing.description import Arguments, Array, Benchmark, Call, Judge, Op, Result, Results, Torch, Values
from fastlenet.testing.judging import TINY, WrongError, expect_within, gamma
from fastlenet.testing.values import BATCHES, Draw

__all__ = ["OPS"]

ROWS = [
    Elements(shape, {"label_smoothing": smoothing})
    for shape in ((0, 10), (1, 1), (7, 10), (70, 33))
    for smoothing in (0.0, 0.1, 1.0)
]
PARTS = [  # of larger batches
    Elements(shape, {"label_smoothing": 0.1, "batch_size": size})
    for shape in ((0, 10), (7, 10), (70, 33))
    for size in (70, 1001)
]


def _expect_loss(actual: SupportsFloat, exact: SupportsFloat, bound: float) -> None:
    a, e = float(actual), float(exact)
    if not (abs(a - e) <= bound or a == e or (np.isnan(a) and np.isnan(e))):
        raise WrongError(f"loss expected {e!r}, got {a!r}")


# --- losses of softmax ----------------------------------------------------------------------------------------------------


def _sure(case: Elements, values: Values) -> Arguments:
    """Logits as sure of themselves as a trained network's."""
    return _rows(case, values, 30)


def _unsure(case: Elements, values: Values) -> Arguments:
    """Logits whose probabilities are neither 0 nor 1, where the squared error has no gradient."""
    return _rows(case, values, 2)


def _rows(case: Elements, values: Values, size: int) -> Arguments:
    n, classes = case.shape
    with np.errstate(over="ignore"):
        logits = size * values(n, classes)
    weights = (2 * values.rng.random(n)).astype(np.float32)
    return {"logits": logits, "labels": values.places((n,), classes, np.int64), "weights": weights, **case.options}


def _taught(case: Elements, values: Values) -> Arguments:
    """Rows with a teacher's probabilities, some of which are 0."""
    found = _rows(case, values, 10)
    n, classes = case.shape
    drawn = values.rng.random((n, classes)) * (values.rng.random((n, classes)) < 0.8)
    found["teacher"] = (drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1e-3)).astype(found["logits"].dtype)
    return found


def _random_rows(draw: Draw) -> Elements:
    smoothing = draw.pick((0.0, 0.0, 0.1, 1.0, 0, 1, np.float32(0.25)))
    return Elements(
        (draw.pick(BATCHES), draw.pick((0, 1, 2, 3, 7, 10, 10, 16, 17, 33))),
        {"label_smoothing": smoothing, "batch_size": draw.pick((None, None, 100, 2**62))},
    )


def _largest(call: Call) -> float:
    weights = call.arguments["weights"]
    return 1.0 if weights is None else float(np.abs(weights).max(initial=0))


def _judge_cross_entropy(call: Call, actual: Results) -> None:
    """Computed in float64, with an error of exp of 3e-13 at most, and rounded once. The loss is a difference of logits."""
    (loss, dlogits), (exact_loss, exact_gradient), weight = actual, call.exact, _largest(call)
    logits = np.abs(call.arguments["logits"].astype(np.float64))
    beside = (dlogits.shape[1] + 8) * 2.0**-53 * logits.max(initial=0, where=logits < np.inf)
    _expect_loss(loss, exact_loss, max(1.0, weight) * (1e-12 * (61 + abs(exact_loss)) + beside))
    bound = np.spacing(np.abs(exact_gradient).astype(np.float32)) / 2 + max(1.0, weight) * 1e-12 / max(len(dlogits), 1)
    expect_within("dlogits", dlogits, exact_gradient, bound, np.abs(exact_gradient))


def _judge_distillation(call: Call, actual: Results) -> None:
    """As the cross-entropy, with a second sum of terms up to temperature times the logits, and gradients up to temperature."""
    (loss, dlogits), (exact_loss, exact_gradient), weight = actual, call.exact, _largest(call)
    mass = np.maximum(1.0, np.abs(call.arguments["teacher"].astype(np.float64)).sum(axis=1, keepdims=True))
    scale = max(1.0, weight) * mass * max(1.0, float(call.arguments["temperature"])) ** 2  # of each row, which may hold NaN
    logits = np.abs(call.arguments["logits"].astype(np.float64))
    beside = 2 * (dlogits.shape[1] + 8) * 2.0**-53 * logits.max(initial=0, where=logits < np.inf)
    _expect_loss(loss, exact_loss, scale.max(initial=1) * (2e-12 * (61 + abs(exact_loss)) + beside))
    bound = np.spacing(np.abs(exact_gradient).astype(np.float32)) / 2 + 2e-12 * scale / max(len(dlogits), 1)
    expect_within("dlogits", dlogits, exact_gradient, bound, np.abs(exact_gradient))


def _judge_squared_error(call: Call, actual: Results) -> None:
    """Computed in float64, with an error of exp of 3e-13 at most, and rounded once. Probabilities are at most 1."""
    (loss, dlogits), (exact_loss, exact_gradient), weight = actual, call.exact, _largest(call)
    _expect_loss(loss, exact_loss, max(1.0, weight) * 4e-12)
    bound = np.spacing(np.abs(exact_gradient).astype(np.float32)) / 2 + max(1.0, weight) * 8e-12 / max(dlogits.size, 1)
    expect_within("dlogits", dlogits, exact_gradient, bound, np.abs(exact_gradient))


def _torch_cross_entropy(torch: Torch, a: Arguments) -> object:
    options = {"label_smoothing": a["label_smoothing"], "reduction": "none"}
    losses = torch.nn.functional.cross_entropy(a["logits"], a["labels"], **options)
    return _mean(losses, a)


def _torch_distillation(torch: Torch, a: Arguments) -> object:
    options = {"label_smoothing": a["label_smoothing"], "reduction": "none"}
    of_labels = torch.nn.functional.cross_entropy(a["logits"], a["labels"], **options)
    of_teacher = -(a["teacher"] * torch.log_softmax(a["logits"] / a["temperature"], 1)).sum(dim=1)
    return _mean((1 - a["mix"]) * of_labels + a["mix"] * a["temperature"] ** 2 * of_teacher, a)


def _torch_squared_error(torch: Torch, a: Arguments) -> object:
    classes, smoothing = a["logits"].shape[1], a["label_smoothing"]
    places = torch.nn.functional.one_hot(a["labels"], classes).to(a["logits"].dtype)
    target = places * (1 - smoothing) + smoothing / classes
    losses = ((torch.softmax(a["logits"], 1) - target) ** 2).mean(dim=1)
    return _mean(losses, a)


def _mean(losses: Array, a: Arguments) -> object:
    weighted = losses if a["weights"] is None else a["weights"] * losses
    result: object = weighted.sum() / (a.get("batch_size") or len(losses))
    return result


def _loss_of_softmax(
    name: str, arguments: Callable[[Elements, Values], Arguments], judge: Judge, torch: Callable[[Torch, Arguments], object]
) -> Op:
    return Op(
        name=name,
        arrays=("logits", "weights"),
        results=(Result("dlogits"),),
        scalar=True,
        arguments=arguments,
        cases=[*ROWS, *PARTS],
        small=[Elements((3, 6), {"label_smoothing": smoothing}) for smoothing in (0.2, 0.0)],
        large=Elements((300, 10), {"label_smoothing": 0.0}),
        random=_random_rows,
        judge=judge,
        integers=False,
        roundings=({"weights": None},),
        torch=torch,
        benchmarks=(Benchmark(", 128x10", Elements((128, 10), {"label_smoothing": 0.0})),),
        traffic=lambda arguments: 2.0 * arguments["logits"].nbytes,
    )


SOFTMAX_CROSS_ENTROPY = _loss_of_softmax("softmax_cross_entropy", _sure, _judge_cross_entropy, _torch_cross_entropy)
SOFTMAX_SQUARED_ERROR = _loss_of_softmax("softmax_squared_error", _unsure, _judge_squared_error, _torch_squared_error)


def _with_teacher(case: Elements, mix: float, temperature: float) -> Elements:
    return replace(case, options={**case.options, "mix": mix, "temperature": temperature})


def _random_taught(draw: Draw) -> Elements:
    return _with_teacher(_random_rows(draw), draw.pick((0.0, 0.5, 0.9, 1.0, 1)), draw.pick((0.5, 1.0, 2, 4.0)))


SOFTMAX_DISTILLATION = replace(
    _loss_of_softmax("softmax_distillation", _taught, _judge_distillation, _torch_distillation),
    arrays=("logits", "teacher", "weights"),
    cases=[
        *(_with_teacher(case, 0.7, 2.0) for case in (*ROWS, *PARTS)),
        *(_with_teacher(case, mix, 1.0) for case in ROWS for mix in (0.0, 1.0)),
    ],
    small=[_with_teacher(Elements((3, 6), {"label_smoothing": smoothing}), 0.4, 3.0) for smoothing in (0.2, 0.0)],
    large=_with_teacher(Elements((300, 10), {"label_smoothing": 0.0}), 0.9, 2.0),
    random=_random_taught,
    benchmarks=(Benchmark(", 128x10", _with_teacher(Elements((128, 10), {"label_smoothing": 0.0}), 0.9, 2.0)),),
    traffic=lambda arguments: 3.0 * arguments["logits"].nbytes,
)

# --- squared error ----------------------------------------------------------------------------------------------------------


def _pairs(case: Elements, values: Values) -> Arguments:
    return {"prediction": values(*case.shape), "target": values(*case.shape)}


def _judge_pairs(call: Call, actual: Results) -> None:
    """The loss in float64, of terms that are not negative; the gradient rounded once."""
    (loss, gradient), (exact_loss, exact_gradient) = actual, call.exact
    _expect_loss(loss, exact_loss, 0.0 if call.integers else (gradient.size + 4) * 2.0**-52 * abs(exact_loss))
    with np.errstate(all="ignore"):
        bound = 0.0 if call.integers else gamma(1) * np.abs(exact_gradient) + TINY
        expect_within("dprediction", gradient, exact_gradient, bound, np.abs(exact_gradient))


def _torch_pairs(torch: Torch, a: Arguments) -> object:
    result: object = torch.nn.functional.mse_loss(a["prediction"], a["target"], reduction="sum")
    return result


SQUARED_ERROR = Op(
    name="squared_error",
    arrays=("prediction", "target"),
    results=(Result("dprediction"),),
    scalar=True,
    arguments=_pairs,
    cases=SHAPES,
    small=[Elements((3, 6))],
    large=Elements((50_000,)),
    random=lambda draw: Elements(draw.any_shape()),
    judge=_judge_pairs,
    in_place=("prediction", "target"),
    torch=_torch_pairs,
    benchmarks=(Benchmark("", Elements((128, 20, 24, 24))),),
)
OPS = (SOFTMAX_CROSS_ENTROPY, SOFTMAX_SQUARED_ERROR, SOFTMAX_DISTILLATION, SQUARED_ERROR)
